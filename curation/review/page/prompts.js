// Prompts to the server's model: one question on its way at a time, the newest next, late answers dropped.
import { postProposals } from "./api.js";
import { bitmapOf } from "./frames.js";
import { encodeMask } from "./coding.js";

const PACE_MS = 40; // from one question of a gesture to the next, at least

export class Prompter {
  #waiting = null;
  #running = false;
  #current = null; // the gesture whose answers still count

  /** @param onAnswer  ({question, candidates, ms}) of {bitmap, score}, best first; @param onError (error) */
  constructor(onAnswer, onError) {
    this.onAnswer = onAnswer;
    this.onError = onError;
  }

  get busy() {
    return this.#running;
  }

  /**
   * Asks for masks; a newer question takes the place of one that has not been sent yet.
   *
   * @param question  {frame, region, gesture, tool, prompts: {box, points}, mask: Bitmap | null}
   */
  ask(question) {
    this.#current = question.gesture;
    this.#waiting = question;
    if (!this.#running) this.#run();
  }

  /** Answers that are still on their way no longer count. */
  cancel() {
    this.#current = null;
    this.#waiting = null;
  }

  async #run() {
    this.#running = true;
    while (this.#waiting) {
      const question = this.#waiting;
      this.#waiting = null;
      const asked = performance.now();
      try {
        const answer = await this.#answer(question);
        if (question.gesture === this.#current) this.onAnswer({ question, ...answer });
      } catch (error) {
        if (question.gesture === this.#current) this.onError(error);
      }
      const rest = PACE_MS - (performance.now() - asked);
      if (this.#waiting && rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
    }
    this.#running = false;
  }

  async #answer({ frame, region, prompts: { box, points }, mask }) {
    const { width, height } = frame.size;
    const { candidates, ms } = await postProposals(frame.id, {
      structure: region.structure,
      box: box && [box.x, box.y, box.width, box.height],
      points: points.map(({ x, y, positive }) => [x, y, positive ? 1 : 0]),
      mask: mask && (await encodeMask(mask.bits, width, height)),
    });
    const decoded = await Promise.all(
      candidates.map(async ({ mask: rle, score }) => ({ bitmap: await bitmapOf(rle, width, height), score })),
    );
    return { candidates: decoded, ms };
  }
}
