// Undo and redo: first the strokes of the mask that is drawn, then decisions, through the server.
import { postRedo, postUndo } from "./api.js";
import { newEventId } from "./outbox.js";
import { text } from "./strings.js";

export class Undoing {
  constructor(review) {
    this.review = review;
  }

  undo() {
    return this.#back(this.review.region?.draft?.canUndo && "undo", postUndo, text.nothingToUndo, "undo");
  }

  redo() {
    return this.#back(this.review.region?.draft?.canRedo && "redo", postRedo, text.nothingToRedo, "redo");
  }

  async #back(stroke, post, nothing, which) {
    if (stroke) {
      this.review.drawing.cancel();
      this.review.region.draft[stroke]();
      this.review.drawing.drew();
      return;
    }
    await this.review.deciding.coding;
    if (!(await this.review.outbox.drained())) {
      this.review.notice(text.waitForSave, "error");
      return;
    }
    if ((which === "undo" ? this.review.undoable : this.review.redoable) === null) {
      this.review.notice(nothing);
      return;
    }
    try {
      await this.#tookBack(await post(newEventId()), which);
    } catch (error) {
      this.review.report(error);
    }
  }

  async #tookBack(answer, which) {
    this.review.count(answer);
    this.review.outbox.knows(answer.region_id ?? answer.frame_id, answer.event.n);
    await this.#reload(answer.frame_id);
    await this.review.goTo(answer.frame_id, answer.region_id);
    const what =
      this.review.region && answer.region_id ? this.review.nameOf(this.review.region.structure) : text.theFrame;
    this.review.notice(which === "undo" ? text.undone(what) : text.redone(what));
    if (which === "redo") await this.review.advance();
  }

  // What was drawn and not decided yet stays.
  async #reload(frameId) {
    const old = this.review.frames.all().filter(({ id }) => id === frameId);
    this.review.frames.forget(frameId);
    const item = this.review.queue.items.find(({ frame_id: id }) => id === frameId) ?? this.review.itemOf(frameId);
    const fresh = await this.review.frames.get(item);
    for (const { key, id, structure, draft } of old.flatMap(({ regions }) => regions)) {
      if (!draft?.changed) continue;
      const region =
        fresh.regions.find((one) => one.key === key || (id && one.id === id)) ?? fresh.addRegion(structure);
      region.draft = draft;
    }
  }
}
