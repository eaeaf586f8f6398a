// How image and masks look: grey levels, opacity, outlines. Kept for the next visit, but for the grey levels.

const KEY = "sono-review-look";

export class Look extends EventTarget {
  constructor() {
    super();
    const kept = read();
    this.opacity = kept.opacity ?? 0.35;
    this.outlineOnly = kept.outlineOnly ?? false;
    this.hidden = false;
    this.window = 255;
    this.level = 127.5;
  }

  get asStored() {
    return this.window === 255 && this.level === 127.5;
  }

  setWindow(window, level) {
    this.window = Math.min(Math.max(window, 2), 510);
    this.level = Math.min(Math.max(level, 0), 255);
    this.#changed();
  }

  resetWindow() {
    this.setWindow(255, 127.5);
  }

  setOpacity(opacity) {
    this.opacity = Math.round(Math.min(Math.max(opacity, 0), 1) * 100) / 100;
    this.#changed();
  }

  setOutlineOnly(outlineOnly) {
    this.outlineOnly = outlineOnly;
    this.#changed();
  }

  setHidden(hidden) {
    this.hidden = hidden;
    this.#changed();
  }

  #changed() {
    const { opacity, outlineOnly } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ opacity, outlineOnly }));
    } catch {
      // Storage is full or forbidden: the look is kept for this visit.
    }
    this.dispatchEvent(new Event("change"));
  }
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}
