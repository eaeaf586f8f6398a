// The cine that a frame belongs to: which of its images have masks, and going through them.
import { byId, el, icon, refresh } from "../dom.js";
import { text } from "../strings.js";

const FASTEST_MS = 40;
const UNKNOWN_MS = 100; // between images whose times are not known

export class Cine {
  #timer = null;
  #busy = false;
  #wanted = null;

  constructor(review) {
    this.review = review;
  }

  get series() {
    return this.review.frame?.facts.series ?? null;
  }

  render() {
    const { series } = this;
    const bar = byId("cine");
    bar.hidden = !series;
    if (!series) {
      this.stop();
      return;
    }
    const playing = this.#timer !== null;
    const signature = JSON.stringify([series.frames[0].frame_id, series.frames.map(({ masks }) => masks), playing]);
    refresh(bar, signature, () => this.#parts(series, playing));
    const slider = byId("cine-at");
    if (document.activeElement !== slider || !this.#busy) slider.value = String(series.index);
    byId("cine-out").textContent = text.place(series.index + 1, series.frames.length);
  }

  step(offset) {
    const { series } = this;
    if (!series) return;
    this.stop();
    this.#go(series.index + offset);
  }

  toggle() {
    if (this.#timer !== null) this.stop();
    else if (this.series) this.#play();
    this.review.changed("cine");
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #parts(series, playing) {
    const button = (name, label, onclick) =>
      el(
        "button",
        { type: "button", class: "round", "data-key": name, "aria-label": label, title: label, onclick },
        icon(name),
      );
    return [
      button("back", text.previousImage, () => this.step(-1)),
      button(playing ? "pause" : "play", playing ? text.pause : text.play, () => this.toggle()),
      button("next", text.nextImage, () => this.step(1)),
      el(
        "div",
        { id: "cine-slider" },
        el("input", {
          id: "cine-at",
          type: "range",
          min: "0",
          max: String(series.frames.length - 1),
          "aria-label": text.cine,
          "data-key": "slider",
          oninput: ({ target }) => {
            this.stop();
            this.#go(Number(target.value));
          },
        }),
        el(
          "div",
          { id: "cine-marks", "aria-hidden": "true" },
          ...series.frames.map(({ masks }) => el("span", { class: masks ? "masked" : "" })),
        ),
      ),
      el("output", { id: "cine-out" }),
    ];
  }

  // While one image is fetched only the last of those asked for meanwhile counts.
  async #go(index) {
    this.#wanted = Math.min(Math.max(index, 0), this.series.frames.length - 1);
    if (this.#busy) return;
    this.#busy = true;
    while (this.#wanted !== null && this.series) {
      const wanted = this.#wanted;
      this.#wanted = null;
      await this.review.showInSeries(wanted);
    }
    this.#busy = false;
  }

  #play() {
    const { index, frames } = this.series;
    const next = (index + 1) % frames.length;
    const between = frames[next].time_ms - frames[index].time_ms;
    this.#timer = setTimeout(
      async () => {
        const timer = this.#timer;
        await this.#go(next);
        if (this.#timer === timer && this.series) this.#play();
      },
      between > 0 ? Math.max(between, FASTEST_MS) : UNKNOWN_MS,
    );
  }
}
