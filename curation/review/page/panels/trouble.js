// What could not be saved, what two people decided at once, and a server that no longer knows this page.
import { getSession } from "../api.js";
import { byId, el, refresh } from "../dom.js";
import { union } from "../bitmap.js";
import { bitmapOf } from "../frames.js";
import { outline } from "../outline.js";
import { text, clock } from "../strings.js";

export class Trouble {
  constructor(review) {
    this.review = review;
    byId("save").addEventListener("click", () => {
      this.opened = !this.opened && review.outbox.unsaved > 0;
      this.render();
    });
    byId("signed-out").querySelector("p").textContent = text.signedOut;
    byId("signed-out")
      .querySelector("button")
      .addEventListener("click", () => this.#signIn());
    window.addEventListener("online", () => review.outbox.retry());
    window.addEventListener("beforeunload", (event) => {
      review.outbox.release();
      if (review.outbox.unsaved || review.saving.openDrawings) event.preventDefault();
    });
  }

  render() {
    const { outbox, saving } = this.review;
    const { conflicts } = saving;
    byId("signed-out").hidden = !outbox.signedOut;
    if (!outbox.unsaved) this.opened = false;
    byId("unsaved").hidden = !this.opened;
    byId("save").setAttribute("aria-expanded", String(Boolean(this.opened)));
    this.#renderUnsaved(outbox.entries);
    byId("conflicts").hidden = !conflicts.length;
    refresh(byId("conflicts"), conflicts.map(({ event }) => event.event_id).join(), () => [
      el("h2", { text: text.twoPeople }),
      ...conflicts.map((conflict) => this.#conflict(conflict)),
    ]);
  }

  async #signIn() {
    const { review } = this;
    try {
      review.refresh(await getSession());
    } catch (error) {
      review.notice(error.message, "error");
      return;
    }
    review.outbox.retry();
    if (review.state === "error") await review.showCurrent();
  }

  // ---------------------------------------------------------------------------------- not saved

  #renderUnsaved(entries) {
    const signature = JSON.stringify(entries.map(({ event, state, message }) => [event.event_id, state, message]));
    refresh(byId("unsaved"), signature, () => [
      el("h2", { text: text.notSavedShort(entries.length) }),
      el("ul", {}, ...entries.map((entry) => this.#entry(entry))),
      el(
        "div",
        { class: "row" },
        el("button", {
          type: "button",
          class: "plain",
          "data-key": "retry",
          text: text.tryAgain,
          onclick: () => this.review.outbox.retry(),
        }),
      ),
    ]);
  }

  #entry(entry) {
    const { event, state, message } = entry;
    return el(
      "li",
      {},
      el("p", { text: this.#titleOf(event) }),
      el("small", { text: message || text.saving }),
      el(
        "div",
        { class: "row" },
        el("button", {
          type: "button",
          class: "plain",
          "data-key": `go ${event.event_id}`,
          text: text.showIt,
          onclick: () => this.review.goTo(event.frame_id, event.region_id),
        }),
        state === "refused"
          ? el("button", {
              type: "button",
              class: "plain",
              "data-key": `drop ${event.event_id}`,
              text: text.discard,
              onclick: () => this.review.saving.discard(entry),
            })
          : null,
      ),
    );
  }

  #titleOf({ subject, structure, action }) {
    const what = subject === "frame" ? text.theFrame : this.review.nameOf(structure);
    return `${text.done[action]}: ${what}`;
  }

  // ---------------------------------------------------------------------------------- two people

  #conflict(conflict) {
    const { event, answer } = conflict;
    const theirs = answer.region ?? answer.qc ?? {};
    const by = theirs.reviewer ?? text.somebody;
    const at = theirs.updated_at ? clock(new Date(theirs.updated_at)) : "";
    const status = text.status[theirs.status]?.toLowerCase();
    const says = answer.region ? text.conflict(this.review.nameOf(event.structure), by, status, at) : answer.message;
    const picture = answer.region
      ? el("canvas", { width: "300", height: "224", role: "img", "aria-label": text.bothMasks })
      : null;
    if (picture) this.#drawBoth(picture, conflict);
    return el(
      "div",
      { class: "conflict" },
      picture,
      el("div", {}, el("p", { text: says }), picture ? el("p", { class: "legend", text: text.bothMasks }) : null),
      el(
        "div",
        { class: "row" },
        el("button", {
          type: "button",
          class: "primary",
          "data-key": "mine",
          text: text.keepMine(text.done[event.action]),
          onclick: () => this.review.saving.keepMine(conflict),
        }),
        el("button", {
          type: "button",
          class: "plain",
          "data-key": "theirs",
          text: text.takeTheirs,
          onclick: () => this.review.saving.takeTheirs(conflict),
        }),
        el("button", {
          type: "button",
          class: "plain",
          "data-key": "show",
          text: text.showIt,
          onclick: () => this.review.goTo(event.frame_id, event.region_id),
        }),
      ),
    );
  }

  // Theirs as a line, mine dashed.
  async #drawBoth(canvas, { event, local, answer }) {
    const frame = this.review.frames.find(event.frame_id);
    if (!frame) return;
    const { width, height } = frame.size;
    const mine = frame.regions.find(({ key }) => key === local)?.shown;
    const theirs = await bitmapOf(answer.region.mask, width, height);
    const context = canvas.getContext("2d");
    const area = union(theirs.bounds(), mine?.bounds()) ?? { x: 0, y: 0, width, height };
    const scale = Math.min(canvas.width / area.width, canvas.height / area.height) / 1.6;
    const left = canvas.width / 2 - (area.x + area.width / 2) * scale;
    const top = canvas.height / 2 - (area.y + area.height / 2) * scale;
    context.setTransform(scale, 0, 0, scale, left, top);
    context.drawImage(frame.picture, 0, 0, width, height);
    context.lineWidth = 3 / scale;
    for (const [bitmap, colour, dash] of [
      [theirs, "#e69f00", []],
      [mine, "#56b4e9", [8 / scale, 5 / scale]],
    ]) {
      if (!bitmap) continue;
      context.strokeStyle = colour;
      context.setLineDash(dash);
      context.stroke(outline(bitmap, true));
    }
  }
}
