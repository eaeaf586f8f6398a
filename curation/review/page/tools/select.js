// Selects the mask under the pointer; dragging moves the image.

export class SelectTool {
  id = "select";
  draws = false;
  #from = null;
  #moved = false;

  constructor(review, view) {
    this.review = review;
    this.view = view;
  }

  down(at, { stage }) {
    this.#from = stage;
    this.#moved = false;
  }

  move(at, { stage }) {
    if (!this.#from) return;
    const dx = stage.x - this.#from.x;
    const dy = stage.y - this.#from.y;
    if (!this.#moved && Math.hypot(dx, dy) < 4) return;
    this.#moved = true;
    this.#from = stage;
    this.view.pan(dx, dy);
    this.review.changed("view");
  }

  up(at) {
    if (this.#from && !this.#moved) {
      const region = regionAt(this.review.frame, at, this.review.region);
      if (region) this.review.select(region);
    }
    this.#from = null;
  }

  cancel() {
    this.#from = null;
    return false;
  }
}

/** The smallest mask at a point; where several lie, another one than the selected. */
export function regionAt(frame, at, selected) {
  const x = Math.floor(at.x);
  const y = Math.floor(at.y);
  const under = (frame?.regions ?? []).filter((region) => region.shown.at(x, y));
  const others = under.filter((region) => region !== selected);
  const sizeOf = ({ facts }) => facts.area_px ?? 0;
  return (others.length ? others : under).sort((a, b) => sizeOf(a) - sizeOf(b))[0] ?? null;
}
