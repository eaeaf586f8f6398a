// A box around a structure. The model's answer follows while it is drawn.

const SMALLEST = 4; // px of the image; less is a slip of the hand

export class BoxTool {
  id = "box";
  draws = true;
  asks = "box";
  #start = null;
  #gesture = null;
  #asked = null; // the box of its last question: letting go asks nothing new

  constructor(review) {
    this.review = review;
  }

  down(at) {
    if (!this.review.drawing.target()) return;
    this.#start = within(at, this.review.frame.size);
    this.#gesture = {};
    this.#asked = null;
  }

  move(at) {
    if (this.#start) this.#ask(at);
  }

  up(at) {
    if (this.#start) this.#ask(at);
    this.#start = null;
  }

  cancel() {
    if (!this.#start) return false;
    this.#start = null;
    this.review.drawing.cancel();
    this.review.changed("prompts");
    return true;
  }

  #ask(at) {
    const box = boxBetween(this.#start, within(at, this.review.frame.size));
    if (box.width < SMALLEST || box.height < SMALLEST || same(box, this.#asked)) return;
    this.#asked = box;
    this.review.drawing.prompt({ gesture: this.#gesture, tool: "box", prompts: { box, points: [] }, mask: null });
  }
}

function boxBetween(one, other) {
  return {
    x: Math.min(one.x, other.x),
    y: Math.min(one.y, other.y),
    width: Math.abs(one.x - other.x),
    height: Math.abs(one.y - other.y),
  };
}

function same(one, other) {
  return ["x", "y", "width", "height"].every((side) => one[side] === other?.[side]);
}

function within({ x, y }, { width, height }) {
  return { x: Math.min(Math.max(x, 0), width), y: Math.min(Math.max(y, 0), height) };
}
