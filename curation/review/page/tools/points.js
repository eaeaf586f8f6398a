// Points that belong to a structure, and points that do not. Each one asks the model again, with its mask so far.

export class PointsTool {
  id = "points";
  draws = true;
  asks = "points";

  constructor(review, options) {
    this.review = review;
    this.options = options;
  }

  down(at, { negative }) {
    const { width, height } = this.review.frame?.size ?? { width: 0, height: 0 };
    if (at.x < 0 || at.y < 0 || at.x >= width || at.y >= height) return;
    const draft = this.review.drawing.target();
    if (!draft) return;
    const { asked } = this.review.drawing;
    const { box, points } = asked?.prompts ?? draft.prompts;
    const point = { x: at.x, y: at.y, positive: this.options.positive !== Boolean(negative) };
    this.review.drawing.prompt({
      gesture: {},
      tool: "points",
      prompts: { box, points: [...points, point] },
      mask: draft.bitmap.bounds() ? draft.bitmap : null,
    });
  }

  move() {}

  up() {}

  cancel() {
    return false;
  }
}
