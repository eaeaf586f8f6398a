// Brush and eraser: round, of a size in pixels of the image.

export class BrushTool {
  draws = true;
  sized = true;
  #last = null;
  #draft = null;

  /** @param {boolean} erases */
  constructor(review, options, erases) {
    this.id = erases ? "eraser" : "brush";
    this.review = review;
    this.options = options;
    this.erases = erases;
  }

  down(at, { negative }) {
    this.#draft = this.review.drawing.target();
    if (!this.#draft) return;
    this.review.drawing.cancel();
    this.#draft.begin();
    this.value = this.erases !== Boolean(negative) ? 0 : 1;
    this.#last = at;
    this.move(at);
  }

  move(at) {
    if (!this.#last) return;
    this.#draft.extend(this.#draft.bitmap.stroke(this.#last, at, this.options.size / 2, this.value));
    this.#last = at;
    this.review.drawing.drew();
  }

  up(at) {
    if (!this.#last) return;
    this.move(at);
    this.#draft.commit(this.value ? "brush" : "eraser");
    this.#last = null;
    this.review.drawing.drew();
  }

  cancel() {
    if (!this.#last) return false;
    this.#draft.abandon();
    this.#last = null;
    this.review.drawing.drew();
    return true;
  }
}
