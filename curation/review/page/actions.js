// What each key and button does, by the names of keys.js.
import { byId } from "./dom.js";
import { showHelp } from "./panels/help.js";
import { text } from "./strings.js";

const ZOOM = 1.25;

export class Actions {
  /** @param parts  {review, desk, view, look, cine, messages, picker, keyboard}, joined after this one is made */
  constructor(parts) {
    this.parts = parts;
  }

  /** Does it; false if it does not apply now, so that the key keeps its usual meaning. */
  run(id) {
    const [group, name] = id.split(".");
    if (group === "tool") return this.parts.desk.take(name);
    if (group === "frame") return this.parts.review.deciding.decideFrame(name);
    return this[id]();
  }

  accept() {
    const { desk, review } = this.parts;
    if (desk.tool === desk.polygon && desk.polygon.close()) return null;
    review.outbox.release();
    return review.deciding.accept();
  }

  reject() {
    this.parts.review.outbox.release();
    return this.parts.review.deciding.reject();
  }

  next() {
    return this.parts.review.goOn();
  }

  back() {
    return this.parts.review.back();
  }

  undo() {
    return this.parts.review.undoing.undo();
  }

  redo() {
    return this.parts.review.undoing.redo();
  }

  nextRegion() {
    this.parts.review.step(1);
  }

  previousRegion() {
    this.parts.review.step(-1);
  }

  chooseStructure() {
    this.parts.picker.open();
  }

  rename() {
    const { review, picker } = this.parts;
    const { region, frame } = review;
    if (!region) return;
    picker.open(text.renameTo(review.nameOf(region.structure)), (structure) => {
      frame.rename(region, structure);
      review.changed("region");
    });
  }

  /** Starts a mask with a tool that can draw one. */
  startMask(structure) {
    const { review, desk } = this.parts;
    review.choose(structure);
    if (!desk.tool.draws) desk.take(desk.missing("box") ? "brush" : "box");
    byId("side").classList.remove("open");
    byId("stage").focus({ preventScroll: true });
  }

  nextCandidate() {
    return document.activeElement === byId("stage") && this.parts.review.drawing.nextCandidate();
  }

  digit(key) {
    const n = Number(key) - 1;
    return this.parts.messages.toggle(n) || this.parts.review.drawing.chooseCandidate(n);
  }

  smaller() {
    this.parts.desk.resize(-1);
  }

  larger() {
    this.parts.desk.resize(1);
  }

  switchSign() {
    const { desk } = this.parts;
    desk.setPositive(!desk.options.positive);
  }

  reset() {
    this.parts.review.drawing.reset();
  }

  cancel() {
    const { desk } = this.parts;
    if (desk.tool.cancel()) return;
    if (desk.crosshair.at) desk.crosshair.hide();
    else byId("side").classList.remove("open");
  }

  zoomIn() {
    this.#zoom(ZOOM);
  }

  zoomOut() {
    this.#zoom(1 / ZOOM);
  }

  fit() {
    this.parts.view.fit();
    this.parts.review.changed("view");
  }

  zoomToMask() {
    const { review, view } = this.parts;
    const area = review.region?.shown.bounds();
    if (!area) return;
    view.show(area);
    review.changed("view");
  }

  outlineOnly() {
    this.parts.look.setOutlineOnly(!this.parts.look.outlineOnly);
  }

  hideMasks() {
    const { look, review } = this.parts;
    look.setHidden(!look.hidden);
    if (look.hidden) review.notice(text.masksHidden);
  }

  fainter() {
    this.parts.look.setOpacity(this.parts.look.opacity - 0.1);
  }

  stronger() {
    this.parts.look.setOpacity(this.parts.look.opacity + 0.1);
  }

  resetWindow() {
    this.parts.look.resetWindow();
  }

  previousImage() {
    this.parts.cine.step(-1);
  }

  nextImage() {
    this.parts.cine.step(1);
  }

  play() {
    this.parts.cine.toggle();
  }

  help() {
    showHelp(this.parts.keyboard);
  }

  #zoom(factor) {
    const { view, desk, review } = this.parts;
    const at = desk.crosshair.at && view.toStage(desk.crosshair.at);
    view.zoom(factor, at?.x, at?.y);
    review.changed("view");
  }
}
