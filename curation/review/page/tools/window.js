// Window and level: sideways makes the window wider, up and down moves its middle.

export class WindowTool {
  id = "window";
  draws = false;
  #from = null;

  constructor(look) {
    this.look = look;
  }

  down(at, { stage }) {
    this.#from = { stage, window: this.look.window, level: this.look.level };
  }

  move(at, { stage }) {
    if (!this.#from) return;
    this.look.setWindow(
      this.#from.window + (stage.x - this.#from.stage.x) * 0.6,
      this.#from.level + (stage.y - this.#from.stage.y) * 0.4,
    );
  }

  up() {
    this.#from = null;
  }

  cancel() {
    if (!this.#from) return false;
    this.look.setWindow(this.#from.window, this.#from.level);
    this.#from = null;
    return true;
  }
}
