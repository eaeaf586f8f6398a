// Draws the stage: the image on one canvas, masks and tools on another above it, once per animation frame at most.
import { byId } from "./dom.js";
import { sentence } from "./strings.js";
import { regionAt } from "./tools/select.js";

const EXACT_SCALE = 4; // from which single pixels are seen: then outlines follow them

export class Painter {
  #asked = false;
  #image = "";

  constructor(review, view, look, desk) {
    Object.assign(this, { review, view, look, desk });
    this.imageCanvas = byId("image");
    this.overlayCanvas = byId("overlay");
    this.below = this.imageCanvas.getContext("2d", { alpha: false });
    this.above = this.overlayCanvas.getContext("2d");
    this.functions = document.querySelectorAll("#window-level > feComponentTransfer > *");
  }

  /** Asks for a drawing in the next animation frame. */
  request() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#paint();
    });
  }

  #paint() {
    const {
      view,
      review: { frame },
    } = this;
    if (frame && this.shown !== frame && !sameSeries(this.shown, frame)) view.fitted = true; // it begins unzoomed
    if (frame) view.setImage(frame.size.width, frame.size.height);
    const ratio = window.devicePixelRatio || 1;
    this.#paintImage(frame, ratio);
    this.#fitCanvas(this.overlayCanvas, ratio);
    this.above.setTransform(1, 0, 0, 1, 0, 0);
    this.above.clearRect(0, 0, this.overlayCanvas.width, this.overlayCanvas.height);
    if (!frame) return;
    this.#toImage(this.above, ratio);
    if (!this.look.hidden) this.#paintMasks(frame);
    byId("stage").dataset.answers = this.review.drawing.answers;
    this.#paintPrompts();
    this.#paintPolygon();
    this.#paintPointer(frame);
    this.#paintName(frame);
  }

  #paintImage(frame, ratio) {
    const { view, look } = this;
    const signature = [
      frame?.id,
      frame?.facts.reading,
      view.x,
      view.y,
      view.scale,
      view.stage.width,
      view.stage.height,
      ratio,
    ].join();
    if (signature !== this.#image || this.shown !== frame) {
      this.#image = signature;
      this.shown = frame;
      byId("stage").dataset.frame = frame?.id ?? "";
      this.#fitCanvas(this.imageCanvas, ratio);
      this.below.setTransform(1, 0, 0, 1, 0, 0);
      this.below.fillStyle = "#000";
      this.below.fillRect(0, 0, this.imageCanvas.width, this.imageCanvas.height);
      if (frame) {
        this.#toImage(this.below, ratio);
        this.below.imageSmoothingEnabled = view.scale * ratio < EXACT_SCALE;
        this.below.imageSmoothingQuality = "high";
        const source = frame.half && view.scale * ratio <= 0.5 ? frame.half : frame.picture;
        this.below.drawImage(source, 0, 0, frame.size.width, frame.size.height);
      }
    }
    this.#setWindow(look);
  }

  // Linear, with everything outside the window black or white; the browser applies it to the canvas as it is shown.
  #setWindow(look) {
    const slope = 255 / look.window;
    const signature = look.asStored ? "" : `${slope} ${look.level}`;
    if (this.windowed === signature) return;
    this.windowed = signature;
    for (const one of this.functions) {
      one.setAttribute("slope", slope);
      one.setAttribute("intercept", 0.5 - (slope * look.level) / 255);
    }
    this.imageCanvas.style.filter = signature ? "url(#window-level)" : "";
  }

  #fitCanvas(canvas, ratio) {
    const width = Math.max(Math.round(this.view.stage.width * ratio), 1);
    const height = Math.max(Math.round(this.view.stage.height * ratio), 1);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }

  #toImage(context, ratio) {
    const { scale, x, y } = this.view;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  }

  // ---------------------------------------------------------------------------------- masks

  #paintMasks(frame) {
    const { region: selected } = this.review;
    for (const region of frame.regions) {
      if (region !== selected && region.status !== "rejected") this.#paintMask(frame, region, false);
    }
    if (!selected) return;
    if (selected.readings.length) this.#paintReadings(frame, selected);
    if (!selected.readings.length || selected.draft) this.#paintMask(frame, selected, true);
  }

  #paintMask(frame, region, selected) {
    const {
      above: context,
      look,
      view: { scale },
    } = this;
    const colour = frame.colours.get(region.structure);
    const path = region.path(scale < EXACT_SCALE);
    context.save();
    context.lineJoin = "round";
    if (!look.outlineOnly) {
      context.globalAlpha = look.opacity * (selected ? 1 : 0.3);
      context.fillStyle = colour;
      context.fill(path, "evenodd");
    }
    if (region.status === "rejected") context.setLineDash([6 / scale, 5 / scale]);
    if (selected) {
      context.globalAlpha = 0.6;
      context.strokeStyle = "#000";
      context.lineWidth = 4.5 / scale;
      context.stroke(path);
    }
    context.globalAlpha = selected ? 1 : 0.75;
    context.strokeStyle = colour;
    context.lineWidth = (selected ? 2.25 : 1.25) / scale;
    context.stroke(path);
    context.restore();
  }

  #paintReadings(frame, region) {
    const {
      above: context,
      view: { scale },
    } = this;
    const colours = ["#56b4e9", "#e69f00"];
    region.readings.forEach((reading, n) => {
      if (reading.status === "rejected") return;
      reading.path ??= this.desk.outline(reading.bitmap, true);
      context.save();
      context.lineWidth = 2 / scale;
      context.strokeStyle = colours[n % 2];
      if (n % 2) context.setLineDash([7 / scale, 4 / scale]);
      context.stroke(reading.path);
      context.restore();
    });
  }

  // ---------------------------------------------------------------------------------- tools

  #paintPrompts() {
    const {
      above: context,
      view: { scale },
      review,
    } = this;
    const prompts = review.drawing.asked?.prompts ?? review.region?.draft?.prompts;
    if (!prompts) return;
    context.save();
    if (prompts.box) {
      const { x, y, width, height } = prompts.box;
      for (const [style, line] of [
        ["rgba(0,0,0,.6)", 3],
        ["#fff", 1.25],
      ]) {
        context.strokeStyle = style;
        context.lineWidth = line / scale;
        context.setLineDash(line === 3 ? [] : [5 / scale, 4 / scale]);
        context.strokeRect(x, y, width, height);
      }
      context.setLineDash([]);
    }
    for (const point of prompts.points) this.#paintPoint(context, point, scale);
    context.restore();
  }

  // A plus or a minus in a disc: the sign says which, not only its colour.
  #paintPoint(context, { x, y, positive }, scale) {
    const radius = 8 / scale;
    const arm = 4 / scale;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = positive ? "#fff" : "#16181d";
    context.fill();
    context.lineWidth = 1.5 / scale;
    context.strokeStyle = positive ? "#16181d" : "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    if (positive) {
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    }
    context.lineWidth = 2 / scale;
    context.stroke();
  }

  #paintPolygon() {
    const {
      above: context,
      view: { scale },
      desk,
    } = this;
    const { open, hovered } = desk.polygon;
    if (!open.length) return;
    const ahead = desk.crosshair.at ?? hovered;
    context.save();
    context.beginPath();
    open.forEach(({ x, y }, n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (ahead) context.lineTo(ahead.x, ahead.y);
    for (const [style, line] of [
      ["rgba(0,0,0,.6)", 3.5],
      ["#fff", 1.5],
    ]) {
      context.strokeStyle = style;
      context.lineWidth = line / scale;
      context.stroke();
    }
    open.forEach(({ x, y }, n) => {
      context.beginPath();
      context.arc(x, y, (n ? 3 : 5.5) / scale, 0, 2 * Math.PI);
      context.fillStyle = "#fff";
      context.fill();
    });
    context.restore();
  }

  // The brush's circle at the pointer, or the crosshair of the keyboard.
  #paintPointer(frame) {
    const {
      above: context,
      view: { scale },
      desk,
    } = this;
    const at = desk.crosshair.at ?? desk.pointer;
    context.save();
    if (at && desk.tool.sized) {
      context.beginPath();
      context.arc(at.x, at.y, Math.max(desk.options.size / 2, 0.5), 0, 2 * Math.PI);
      for (const [style, line] of [
        ["rgba(0,0,0,.7)", 3],
        ["#fff", 1.25],
      ]) {
        context.strokeStyle = style;
        context.lineWidth = line / scale;
        context.stroke();
      }
    }
    if (desk.crosshair.at) {
      const { x, y } = desk.crosshair.at;
      const { width, height } = frame.size;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.moveTo(x, 0);
      context.lineTo(x, height);
      for (const [style, line] of [
        ["rgba(0,0,0,.6)", 3],
        [desk.crosshair.pressed ? "#ffd54a" : "#fff", 1],
      ]) {
        context.strokeStyle = style;
        context.lineWidth = line / scale;
        context.stroke();
      }
    }
    context.restore();
  }

  // What the mask under the pointer is, with the tool that selects it.
  #paintName(frame) {
    const { above: context, desk, review } = this;
    const region =
      desk.tool.id === "select" && desk.pointer && !this.look.hidden && regionAt(frame, desk.pointer, review.region);
    if (!region || region === review.region || region.status === "rejected") return;
    const ratio = window.devicePixelRatio || 1;
    const { x, y } = this.view.toStage(desk.pointer);
    const name = sentence(review.nameOf(region.structure));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "13px system-ui, sans-serif";
    const { width } = context.measureText(name);
    const left = Math.min(x + 14, this.view.stage.width - width - 20);
    context.fillStyle = "rgba(18, 20, 25, .85)";
    context.beginPath();
    context.roundRect(left, y + 14, width + 16, 24, 7);
    context.fill();
    context.fillStyle = "#f3f5f8";
    context.textBaseline = "middle";
    context.fillText(name, left + 8, y + 26.5);
  }
}

function sameSeries(one, other) {
  const first = (frame) => frame?.facts.series?.frames[0].frame_id;
  return first(one) !== undefined && first(one) === first(other);
}
