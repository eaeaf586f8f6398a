// The top: which queue, how far, how fast, and whether everything is saved.
import { byId, el } from "../dom.js";
import { clock, number, text } from "../strings.js";

const LEFT = { masks: "left", frames: "left_frames", adjudication: "to_adjudicate" };
const SLOW_MS = 150; // faster saving is not announced: "saved" alone is calmer

export class Top {
  #sendingSince = null;

  constructor(review) {
    this.review = review;
    this.#fillFilters();
    for (const button of byId("kinds").children) {
      button.addEventListener("click", () => this.#open(button.dataset.kind));
    }
    for (const id of ["plane-filter", "structure-filter"]) {
      byId(id).addEventListener("change", () => this.#open(this.review.queue.kind));
    }
    byId("undo").addEventListener("click", () => review.undoing.undo());
    byId("redo").addEventListener("click", () => review.undoing.redo());
    byId("again").addEventListener("click", () => {
      if (review.state === "error") review.showCurrent();
      else this.#open(review.queue.kind);
    });
  }

  render() {
    const { review } = this;
    for (const button of byId("kinds").children) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === review.queue.kind));
      if (button.dataset.kind === "adjudication") button.dataset.count = review.progress.to_adjudicate || "";
    }
    this.#renderProgress();
    this.#renderSave();
    const draft = review.region?.draft;
    byId("undo").disabled = !draft?.canUndo && review.undoable === null && !review.outbox.unsaved;
    byId("redo").disabled = !draft?.canRedo && review.redoable === null;
  }

  #open(kind) {
    const filters = { plane: byId("plane-filter").value, structure: byId("structure-filter").value };
    for (const id of ["plane-filter", "structure-filter"]) byId(id).classList.toggle("set", byId(id).value !== "");
    this.review.outbox.release();
    this.review.openQueue(kind, filters);
    byId("stage").focus({ preventScroll: true });
  }

  #fillFilters() {
    const { planes, structures } = this.review.session;
    const options = (entries) =>
      [...entries]
        .sort((a, b) => a.name.localeCompare(b.name))
        .map(({ id, name }) => el("option", { value: id, text: name }));
    byId("plane-filter").append(...options(planes));
    byId("structure-filter").append(...options(structures));
  }

  #renderProgress() {
    const { progress } = this.review;
    const left = progress[LEFT[this.review.queue.kind]] ?? progress.left;
    byId("progress-text").textContent = text.progress(progress.decided, left);
    byId("pace").textContent = progress.per_hour === null ? "" : text.pace(progress.per_hour);
    const all = progress.decided + progress.left;
    const share = all ? progress.decided / all : 0;
    const bar = byId("done");
    bar.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    bar.setAttribute("aria-valuetext", `${number(progress.decided)} / ${number(all)}`);
    bar.firstElementChild.style.transform = `scaleX(${share})`;
  }

  #renderSave() {
    const { state, says } = this.#saving();
    const button = byId("save");
    if (button.dataset.state !== state) button.dataset.state = state;
    if (byId("save-text").textContent !== says) byId("save-text").textContent = says;
  }

  #saving() {
    const { outbox, saving } = this.review;
    const { openDrawings } = saving;
    const narrow = matchMedia("(max-width: 1180px)").matches;
    const small = matchMedia("(max-width: 620px)").matches;
    const { failure, unsaved } = outbox;
    if (failure || saving.conflicts.length) {
      const reason = failure?.message ?? text.twoPeople;
      return { state: "failed", says: narrow ? text.notSavedShort(unsaved) : text.notSaved(unsaved, reason) };
    }
    const sending = outbox.entries.some(({ state }) => ["coding", "waiting", "sending"].includes(state));
    if (!sending) this.#sendingSince = null;
    else this.#sendingSince ??= performance.now();
    if (unsaved && (!sending || performance.now() - this.#sendingSince > SLOW_MS))
      return { state: "saving", says: text.saving };
    if (sending) setTimeout(() => this.review.changed("outbox"), SLOW_MS);
    if (openDrawings) return { state: "open", says: small ? text.openShort(openDrawings) : text.open(openDrawings) };
    if (unsaved) return { state: "saving", says: text.saving };
    return outbox.savedAt
      ? { state: "saved", says: small ? text.savedShort : text.saved(clock(outbox.savedAt)) }
      : { state: "none", says: text.nothingYet };
  }
}
