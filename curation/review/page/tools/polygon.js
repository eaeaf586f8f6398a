// A polygon: points one by one, closed by a double-click, by Enter, or on its first point.

const NEAR = 10; // px of the stage: as good as on the first point

export class PolygonTool {
  id = "polygon";
  draws = true;

  constructor(review, options, view) {
    this.review = review;
    this.options = options;
    this.view = view;
    this.points = [];
    this.frame = null;
    this.hovered = null;
  }

  down(at) {
    if (!this.review.drawing.target()) return;
    if (this.frame !== this.review.frame || this.region !== this.review.region) this.points = [];
    this.frame = this.review.frame;
    this.region = this.review.region;
    if (this.points.length > 2 && this.#isNear(at, this.points[0])) this.close();
    else if (!this.points.length || !this.#isNear(at, this.points.at(-1), 2)) this.points.push(at);
    this.review.changed("prompts");
  }

  move() {}

  up() {}

  hover(at) {
    this.hovered = at;
    if (this.points.length) this.review.changed("prompts");
  }

  doubleClick() {
    this.close();
  }

  /** Fills it; false if there is nothing to close. */
  close() {
    if (this.points.length < 3 || this.region !== this.review.region) return false;
    const draft = this.review.drawing.target();
    draft.begin();
    draft.extend(draft.bitmap.fill(this.points, this.options.positive ? 1 : 0));
    draft.commit("polygon");
    this.points = [];
    this.review.drawing.drew();
    return true;
  }

  /** Drops the last point. */
  cancel() {
    if (!this.points.length) return false;
    this.points.pop();
    this.review.changed("prompts");
    return true;
  }

  /** What is drawn so far, on the frame and structure it was begun on. */
  get open() {
    return this.region === this.review.region && this.frame === this.review.frame ? this.points : [];
  }

  #isNear(one, other, near = NEAR) {
    return Math.hypot(one.x - other.x, one.y - other.y) * this.view.scale < near;
  }
}
