// Undo and redo: first the strokes of the mask that is drawn, then decisions, through the server.
import { postRedo, postUndo } from "./api.js";
import { newEventId } from "./outbox.js";
import { text } from "./strings.js";

export class Undoing {
  #eventIds = new Map(); // of what was asked and not answered: asked again, it is the same

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
    if (!(await this.review.outbox.drained())) {
      this.review.notice(text.waitForSave, "error");
      return;
    }
    if ((which === "undo" ? this.review.undoable : this.review.redoable) === null) {
      this.review.notice(nothing);
      return;
    }
    try {
      if (!this.#eventIds.has(which)) this.#eventIds.set(which, newEventId());
      const answer = await post(this.#eventIds.get(which), this.review.session.reviewer);
      this.#eventIds.delete(which);
      await this.#tookBack(answer, which);
    } catch (error) {
      if (!error.passing) this.#eventIds.delete(which);
      this.review.report(error);
    }
  }

  async #tookBack(answer, which) {
    this.review.count(answer);
    await this.review.reload(answer.frame_id);
    await this.review.goTo(answer.frame_id, answer.region_id);
    const what =
      this.review.region && answer.region_id ? this.review.nameOf(this.review.region.structure) : text.theFrame;
    this.review.notice(which === "undo" ? text.undone(what) : text.redone(what));
    if (which === "redo") await this.review.advance();
  }
}
