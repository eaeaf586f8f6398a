// Below the image: the settings of the tool in hand, the candidates to choose among, and the decision.
import { byId, el, icon, refresh } from "../dom.js";
import { text } from "../strings.js";

export class Dock {
  constructor(review, desk, actions) {
    this.review = review;
    this.desk = desk;
    for (const id of ["back", "reject", "accept", "next"]) {
      byId(id).addEventListener("click", () => {
        actions.run(id);
        byId("stage").focus({ preventScroll: true });
      });
    }
  }

  render() {
    const { review } = this;
    const { region, frame } = review;
    for (const id of ["reject", "accept"]) byId(id).disabled = !frame;
    for (const id of ["back", "next"]) byId(id).disabled = review.state === "loading";
    const ofFrame = review.queue.kind === "frames" && !region?.changed;
    byId("accept-text").textContent = ofFrame
      ? text.acceptFrame
      : region?.changed
        ? text.acceptChanges
        : text.acceptMask;
    byId("reject-text").textContent = ofFrame ? text.rejectFrame : text.rejectMask;
    this.#renderOptions();
  }

  #renderOptions() {
    const { tool, options } = this.desk;
    const choices = this.#choices();
    const signature = [tool.id, options.positive, choices.map(({ key }) => key).join(), tool.open?.length > 2].join(
      "|",
    );
    refresh(byId("options"), signature, () =>
      [
        choices.length ? el("div", { id: "candidates" }, ...choices.map((choice) => this.#candidate(choice))) : null,
        ...this.#settings(tool),
      ].filter(Boolean),
    );
    const slider = byId("brush-size");
    if (slider) {
      slider.value = options.size;
      byId("brush-out").textContent = text.brushSize(options.size);
    }
  }

  #settings(tool) {
    if (tool.sized) return [this.#size()];
    if (tool.id === "points" || tool.id === "polygon")
      return [this.#sign(tool), tool.id === "polygon" ? this.#close(tool) : null];
    const hint = text.hints[tool.id];
    return hint && !this.#choices().length ? [el("span", { class: "hint", text: hint })] : [];
  }

  #size() {
    return el(
      "label",
      {},
      text.size,
      el("input", {
        id: "brush-size",
        type: "range",
        min: "1",
        max: "120",
        value: String(this.desk.options.size),
        oninput: ({ target }) => {
          this.desk.options.size = Number(target.value);
          this.review.changed("tool");
        },
      }),
      el("output", { id: "brush-out" }),
    );
  }

  #sign({ id }) {
    const choice = (positive, label, name) =>
      el(
        "button",
        {
          type: "button",
          "data-key": label,
          "aria-pressed": String(this.desk.options.positive === positive),
          onclick: () => this.desk.setPositive(positive),
        },
        icon(name),
        label,
      );
    const [add, remove] = id === "points" ? text.pointSigns : text.polygonSigns;
    return el(
      "div",
      { class: "segments", role: "group", "aria-label": text.sign },
      choice(true, add, "plus"),
      choice(false, remove, "minus"),
    );
  }

  #close(tool) {
    return tool.open.length > 2
      ? el("button", {
          type: "button",
          class: "plain",
          "data-key": "close",
          text: text.close,
          onclick: () => tool.close(),
        })
      : null;
  }

  // ---------------------------------------------------------------------------------- candidates

  #choices() {
    const { region } = this.review;
    if (!region) return [];
    if (region.readings.length) {
      return region.readings.map((reading, n) => ({
        key: `${region.key} ${n} ${region.reading === reading}`,
        bitmap: reading.bitmap,
        chosen: region.reading === reading,
        says: reading.status === "rejected" ? text.readingRejected(reading.label) : text.reading(reading.label),
        short: reading.status === "rejected" ? `${reading.label} ✕` : reading.label,
        n,
      }));
    }
    const { candidates = [], chosen } = region.draft ?? {};
    if (candidates.length < 2) return [];
    this.numbers ??= new WeakMap();
    if (!this.numbers.has(candidates)) this.numbers.set(candidates, performance.now());
    return candidates.slice(0, 9).map(({ bitmap, score }, n) => ({
      key: `${this.numbers.get(candidates)} ${n} ${n === chosen}`,
      bitmap,
      chosen: n === chosen,
      says: text.candidate(n + 1, score),
      short: String(n + 1),
      n,
    }));
  }

  #candidate({ bitmap, chosen, says, short, n }) {
    const canvas = el("canvas", { width: "128", height: "104", "aria-hidden": "true" });
    this.#thumbnail(canvas, bitmap);
    return el(
      "button",
      {
        type: "button",
        class: "candidate",
        "data-key": `candidate-${n}`,
        "aria-label": says,
        title: says,
        "aria-pressed": String(chosen),
        onclick: () => {
          this.review.drawing.chooseCandidate(n);
          byId("stage").focus({ preventScroll: true });
        },
      },
      canvas,
      el("kbd", { "aria-hidden": "true", text: short }),
    );
  }

  // All candidates in the same frame, so that they can be compared.
  #thumbnail(canvas, bitmap) {
    const { frame, region } = this.review;
    const area = bitmap.bounds() ?? { x: 0, y: 0, ...frame.size };
    const margin = Math.max(area.width, area.height) * 0.2 + 4;
    const scale = Math.min(canvas.width / (area.width + 2 * margin), canvas.height / (area.height + 2 * margin));
    const context = canvas.getContext("2d");
    context.setTransform(
      scale,
      0,
      0,
      scale,
      canvas.width / 2 - (area.x + area.width / 2) * scale,
      canvas.height / 2 - (area.y + area.height / 2) * scale,
    );
    context.drawImage(frame.picture, 0, 0, frame.size.width, frame.size.height);
    const path = this.desk.outline(bitmap, true);
    context.fillStyle = context.strokeStyle = frame.colours.get(region.structure);
    context.globalAlpha = 0.35;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
    context.lineWidth = 2.5 / scale;
    context.stroke(path);
  }
}
