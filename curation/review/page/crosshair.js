// A pointer for the keyboard: arrow keys move it, Enter or Space presses it and lifts it.
import { text } from "./strings.js";

const STEP = 8; // px of the image; with Shift one

const HEADINGS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Crosshair {
  constructor(desk, review, view) {
    Object.assign(this, { desk, review, view, at: null, pressed: false });
  }

  /** Takes a key; false if the key is not for it. */
  key(event) {
    const heading = HEADINGS[event.key];
    if (!this.review.frame || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (heading && this.desk.tool.draws) {
      this.#move(heading, event.shiftKey ? 1 : STEP);
      return true;
    }
    if (this.at && (event.key === "Enter" || event.key === " ")) {
      this.#press(event.key, event.shiftKey);
      return true;
    }
    return false;
  }

  hide() {
    if (this.pressed) this.desk.tool.cancel();
    this.at = null;
    this.pressed = false;
    this.review.changed("tool");
  }

  #move([dx, dy], step) {
    const { width, height } = this.review.frame.size;
    const { x, y } = this.at ?? this.#start();
    this.at = this.at
      ? { x: Math.min(Math.max(x + dx * step, 0), width - 0.5), y: Math.min(Math.max(y + dy * step, 0), height - 0.5) }
      : { x, y };
    this.view.reveal(this.at);
    if (this.pressed) this.desk.tool.move(this.at, { stage: this.view.toStage(this.at) });
    this.#say();
  }

  #press(key, negative) {
    const { tool, polygon } = this.desk;
    const stage = this.view.toStage(this.at);
    if (tool === polygon && key === "Enter" && polygon.close()) return;
    if (this.pressed) {
      tool.up(this.at, { stage });
      this.pressed = false;
    } else {
      tool.down(this.at, { stage, negative });
      this.pressed = tool.id !== "points" && tool !== polygon && this.review.region !== null;
    }
    this.#say();
  }

  // In the middle of the selected mask, or of the image.
  #start() {
    const { frame, region } = this.review;
    const { x, y, width, height } = region?.shown.bounds() ?? { x: 0, y: 0, ...frame.size };
    return { x: Math.round(x + width / 2) + 0.5, y: Math.round(y + height / 2) + 0.5 };
  }

  #say() {
    this.review.changed("prompts");
    this.review.dispatchEvent(
      new CustomEvent("say", {
        detail: text.crosshair(Math.floor(this.at.x), Math.floor(this.at.y), this.pressed),
      }),
    );
  }
}
