// Where the image is on the stage: scale and offset, in CSS pixels. No drawing.

const MARGIN = 12; // px around an image that fits
const LARGEST = 40; // px of the stage for one of the image

export class View {
  constructor() {
    this.image = { width: 1, height: 1 };
    this.stage = { width: 1, height: 1 };
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.fitted = true;
  }

  setImage(width, height) {
    const same = this.image.width === width && this.image.height === height;
    this.image = { width, height };
    if (!same || this.fitted) this.fit();
  }

  setStage(width, height) {
    const { stage } = this;
    this.stage = { width, height };
    if (this.fitted) this.fit();
    else this.pan((width - stage.width) / 2, (height - stage.height) / 2);
  }

  get fitScale() {
    const { image, stage } = this;
    const room = Math.min((stage.width - 2 * MARGIN) / image.width, (stage.height - 2 * MARGIN) / image.height);
    return Math.max(room, 0.01);
  }

  fit() {
    this.scale = this.fitScale;
    this.x = (this.stage.width - this.image.width * this.scale) / 2;
    this.y = (this.stage.height - this.image.height * this.scale) / 2;
    this.fitted = true;
  }

  /** Zooms so that a rectangle of the image takes half of the stage. */
  show({ x, y, width, height }) {
    const scale = Math.min(this.stage.width / width, this.stage.height / height) / 2;
    this.scale = Math.min(Math.max(scale, this.fitScale), LARGEST / 4);
    this.x = this.stage.width / 2 - (x + width / 2) * this.scale;
    this.y = this.stage.height / 2 - (y + height / 2) * this.scale;
    this.fitted = false;
  }

  /** Zooms by a factor; the point under (x, y) of the stage stays where it is. */
  zoom(factor, x = this.stage.width / 2, y = this.stage.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.fitScale / 2), LARGEST);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#keepInSight();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#keepInSight();
  }

  /** Moves the image so that a point of it is on the stage. */
  reveal({ x, y }) {
    const at = this.toStage({ x, y });
    const dx = Math.min(Math.max(at.x, 24), this.stage.width - 24) - at.x;
    const dy = Math.min(Math.max(at.y, 24), this.stage.height - 24) - at.y;
    if (dx || dy) this.pan(dx, dy);
  }

  toImage({ x, y }) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toStage({ x, y }) {
    return { x: x * this.scale + this.x, y: y * this.scale + this.y };
  }

  // A corner of the image, at least, never leaves the stage.
  #keepInSight() {
    const width = this.image.width * this.scale;
    const height = this.image.height * this.scale;
    const part = 64;
    this.x = Math.min(Math.max(this.x, part - width), this.stage.width - part);
    this.y = Math.min(Math.max(this.y, part - height), this.stage.height - part);
  }
}
