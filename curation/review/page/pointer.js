// Mouse, pen and fingers on the stage: the tool in hand, and moving and zooming the image whatever the tool.

const LINE = 16; // px of a wheel that counts in lines

export class Pointer {
  #pointers = new Map(); // those that are down: id -> place on the stage
  #drawing = null; // the one that draws
  #panning = null;
  #pinch = null;
  #penSeen = false; // then fingers only move the image: a palm must not draw
  #lastTap = { at: 0, x: 0, y: 0 };
  spaceDown = false;
  spaceUsed = false;

  constructor(stage, desk, review, view) {
    Object.assign(this, { stage, desk, review, view });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", (event) => this.#cancel(event));
    stage.addEventListener("pointerleave", () => this.#hover(null));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #down(event) {
    if (!this.review.frame) return;
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    try {
      this.stage.setPointerCapture(event.pointerId);
    } catch {
      // The pointer is gone already.
    }
    const at = this.#place(event);
    this.#pointers.set(event.pointerId, at);
    this.desk.crosshair.hide();
    if (event.pointerType === "pen") this.#penSeen = true;
    if (this.#pointers.size === 2) this.#startPinch();
    else if (this.#pans(event)) this.#panning = event.pointerId;
    else if (this.#pointers.size === 1 && event.button !== 1) this.#startDrawing(event, at);
    this.#showPanning();
  }

  #pans(event) {
    const palm = event.pointerType === "touch" && this.#penSeen && this.desk.tool.draws;
    return event.button === 1 || this.spaceDown || palm;
  }

  #startDrawing(event, stage) {
    this.#drawing = event.pointerId;
    const at = this.view.toImage(stage);
    const negative = event.altKey || event.button === 2;
    if (this.#isDouble(event, stage) && this.desk.tool.doubleClick) this.desk.tool.doubleClick(at);
    else this.desk.tool.down(at, { stage, negative });
  }

  #isDouble(event, { x, y }) {
    const last = this.#lastTap;
    this.#lastTap = { at: event.timeStamp, x, y };
    return event.timeStamp - last.at < 350 && Math.hypot(x - last.x, y - last.y) < 8;
  }

  #move(event) {
    const at = this.#place(event);
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.#hover(this.view.toImage(at));
      return;
    }
    this.#pointers.set(event.pointerId, at);
    if (this.#pinch) this.#pinching();
    else if (this.#panning === event.pointerId) {
      this.spaceUsed = true;
      this.view.pan(at.x - before.x, at.y - before.y);
      this.review.changed("view");
    } else if (this.#drawing === event.pointerId) {
      this.#draw(event);
    }
  }

  // Every place that the pointer passed, not only one per animation frame.
  #draw(event) {
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const one of passed.length ? passed : [event]) {
      const stage = this.#place(one);
      this.desk.tool.move(this.view.toImage(stage), { stage });
    }
    if (event.pointerType !== "touch") this.desk.pointer = this.view.toImage(this.#place(event));
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (this.#drawing === event.pointerId) {
      const stage = this.#place(event);
      this.desk.tool.up(this.view.toImage(stage), { stage });
    }
    this.#release(event.pointerId);
  }

  #cancel(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#drawing === event.pointerId) this.desk.tool.cancel();
    this.#release(event.pointerId);
  }

  #release(id) {
    if (this.#drawing === id) this.#drawing = null;
    if (this.#panning === id) this.#panning = null;
    if (this.#pointers.size < 2) this.#pinch = null;
    this.#showPanning();
  }

  #hover(at) {
    this.desk.pointer = at;
    this.desk.tool.hover?.(at);
    if (this.desk.tool.sized || this.desk.tool.id === "select") this.review.changed("pointer");
  }

  // ---------------------------------------------------------------------------------- two fingers

  #startPinch() {
    if (this.#drawing !== null) this.desk.tool.cancel(); // the first finger was no stroke
    this.#drawing = null;
    this.#panning = null;
    this.#pinch = this.#fingers();
  }

  #pinching() {
    const now = this.#fingers();
    const before = this.#pinch;
    this.view.pan(now.x - before.x, now.y - before.y);
    if (before.apart > 0) this.view.zoom(now.apart / before.apart, now.x, now.y);
    this.#pinch = now;
    this.review.changed("view");
  }

  #fingers() {
    const [one, other] = [...this.#pointers.values()];
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2, apart: Math.hypot(one.x - other.x, one.y - other.y) };
  }

  // ---------------------------------------------------------------------------------- wheel

  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? LINE : event.deltaMode === 2 ? this.view.stage.height : 1;
    const dx = event.deltaX * unit;
    const dy = event.deltaY * unit;
    if (event.ctrlKey || event.metaKey) {
      const { x, y } = this.#place(event);
      this.view.zoom(Math.exp(-Math.min(Math.max(dy, -60), 60) * 0.01), x, y);
      this.review.changed("view");
    } else if (this.desk.tool.sized) {
      this.desk.resize(dy < 0 ? 1 : -1);
    } else {
      this.view.pan(event.shiftKey ? -dy : -dx, event.shiftKey ? 0 : -dy);
      this.review.changed("view");
    }
  }

  #place(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #showPanning() {
    this.stage.classList.toggle("panning", this.#panning !== null || this.spaceDown);
  }

  space(down) {
    this.spaceDown = down;
    if (down) this.spaceUsed = false;
    this.#showPanning();
  }
}
