// A mask while it is drawn: its bitmap, what it was asked for with, and every step back without end.
import { union } from "./bitmap.js";

const NO_PROMPTS = Object.freeze({ box: null, points: Object.freeze([]) });

export class Draft {
  #steps = [];
  #at = 0;
  #before = null; // the bits as they were when a stroke began
  #area = null;
  #changed = null; // what `changed` said, until there is another step

  /** @param {import("./bitmap.js").Bitmap} base  the mask as it stands; a blank one for a new mask */
  constructor(base) {
    this.base = base;
    this.bitmap = base.copy();
    this.prompts = NO_PROMPTS;
    this.candidates = []; // {bitmap, score} of the last answer
    this.chosen = 0;
  }

  get changed() {
    this.#changed ??= this.#at > 0 && !this.bitmap.equals(this.base);
    return this.#changed;
  }

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#steps.length;
  }

  /** Names of the tools behind what is drawn now. */
  get used() {
    const tools = this.#steps.slice(0, this.#at).map(({ tool }) => tool);
    return [...new Set(tools.slice(tools.lastIndexOf("reset") + 1))];
  }

  /** A stroke was begun and is neither committed nor abandoned. */
  get drawing() {
    return this.#before !== null;
  }

  /** Begins a stroke; `extend` says what it changed, `commit` makes it one step, `abandon` takes it back. */
  begin() {
    this.#before = this.bitmap.bits.slice();
    this.#area = null;
  }

  extend(area) {
    this.#area = union(this.#area, area);
  }

  commit(tool) {
    const before = this.#before;
    const area = this.#area;
    this.#before = null;
    if (!before || !area) return;
    const { width, height } = this.bitmap;
    const old = new this.bitmap.constructor(width, height, before).cut(area);
    this.#push({ tool, area, old, now: this.bitmap.cut(area), gesture: null, from: this.prompts, to: this.prompts });
    this.candidates = [];
  }

  abandon() {
    if (this.#before) this.bitmap.bits.set(this.#before);
    this.#before = null;
  }

  /** Takes a whole new mask as one step; again for the same gesture, instead of its earlier answer. */
  replace(bitmap, { tool, gesture, prompts }) {
    const last = this.#steps[this.#at - 1];
    if (gesture && last?.gesture === gesture) this.undo();
    const area = union(this.bitmap.bounds(), bitmap.bounds()) ?? { x: 0, y: 0, width: 1, height: 1 };
    const old = this.bitmap.cut(area);
    const from = this.prompts;
    this.bitmap.bits.set(bitmap.bits);
    this.prompts = prompts ?? this.prompts;
    this.#push({ tool, area, old, now: bitmap.cut(area), gesture, from, to: this.prompts });
  }

  undo() {
    if (!this.canUndo) return false;
    this.#at -= 1;
    this.#changed = null;
    const { area, old, from } = this.#steps[this.#at];
    this.bitmap.paste(area, old);
    this.prompts = from;
    this.candidates = [];
    return true;
  }

  redo() {
    if (!this.canRedo) return false;
    const { area, now, to } = this.#steps[this.#at];
    this.#at += 1;
    this.#changed = null;
    this.bitmap.paste(area, now);
    this.prompts = to;
    this.candidates = [];
    return true;
  }

  #push(step) {
    this.#steps.splice(this.#at, Infinity, step);
    this.#at += 1;
    this.#changed = null;
  }
}
