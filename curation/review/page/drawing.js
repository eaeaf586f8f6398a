// Drawing on the mask that is selected: by hand, and by the model's answers to prompts.
import { Prompter } from "./prompts.js";
import { text } from "./strings.js";

export class Drawing {
  constructor(review) {
    this.review = review;
    this.asked = null; // prompts that have no answer yet
    this.answers = 0; // of the model, that were drawn
    this.prompter = new Prompter(
      (answer) => this.#answered(answer),
      (error) => this.#failed(error),
    );
  }

  /** Answers that are still on their way no longer count. */
  cancel() {
    this.prompter.cancel();
    this.asked = null;
  }

  /** What tools draw on: the selected mask; null, and a question to the person, if there is none. */
  target() {
    if (!this.review.frame) return null;
    if (!this.review.region) {
      this.review.dispatchEvent(new Event("choose"));
      return null;
    }
    this.review.outbox.release();
    return this.review.region.edit();
  }

  /** The bitmap of the selected mask has changed. */
  drew() {
    this.review.region.redraw();
    this.review.changed("mask");
  }

  /** Asks the model; the answers come back into the selected mask. */
  prompt({ gesture, tool, prompts, mask }) {
    this.asked = { gesture, prompts };
    this.prompter.ask({ frame: this.review.frame, region: this.review.region, gesture, tool, prompts, mask });
    this.review.changed("prompts");
  }

  chooseCandidate(index) {
    const { region } = this.review;
    const readings = region?.readings ?? [];
    if (readings[index]) {
      const gesture = "reading";
      region.edit().replace(readings[index].bitmap, { tool: "reading", gesture });
      region.reading = readings[index];
      this.drew();
      return true;
    }
    const draft = region?.draft;
    if (!draft?.candidates[index]) return false;
    const { candidates, gesture, tool } = draft;
    draft.replace(candidates[index].bitmap, { tool, gesture });
    Object.assign(draft, { candidates, chosen: index });
    this.drew();
    return true;
  }

  nextCandidate() {
    const { draft, readings = [], reading } = this.review.region ?? {};
    if (readings.length > 1) return this.chooseCandidate((readings.indexOf(reading) + 1) % readings.length);
    if (!draft || draft.candidates.length < 2) return false;
    return this.chooseCandidate((draft.chosen + 1) % draft.candidates.length);
  }

  /** Drops what was drawn since the last decision; one step back brings it again. */
  reset() {
    const { region } = this.review;
    if (!region) return;
    this.cancel();
    if (region.id) this.review.frame.rename(region, region.facts.structure);
    region.reading = null;
    if (!region.draft) {
      this.review.changed("region");
      return;
    }
    region.draft.replace(region.draft.base, { tool: "reset", prompts: { box: null, points: [] } });
    region.draft.candidates = [];
    this.drew();
  }

  #answered({ question, candidates }) {
    const { frame, region, gesture, tool, prompts } = question;
    if (frame !== this.review.frame || region !== this.review.region) return;
    if (this.asked?.gesture === gesture && this.asked.prompts === prompts) this.asked = null;
    if (!candidates.length) {
      this.review.notice(text.nothingFound);
      this.review.changed("prompts");
      return;
    }
    const draft = region.edit();
    this.answers += 1;
    draft.replace(candidates[0].bitmap, { tool, gesture, prompts });
    Object.assign(draft, { candidates, chosen: 0, gesture, tool });
    this.drew();
  }

  #failed(error) {
    this.asked = null;
    this.review.report(error);
    this.review.changed("prompts");
  }
}
