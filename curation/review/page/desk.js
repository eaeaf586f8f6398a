// The tools that lie ready, the one in hand, and their settings.
import { Crosshair } from "./crosshair.js";
import { outline } from "./outline.js";
import { BoxTool } from "./tools/box.js";
import { BrushTool } from "./tools/brush.js";
import { PointsTool } from "./tools/points.js";
import { PolygonTool } from "./tools/polygon.js";
import { SelectTool } from "./tools/select.js";
import { WindowTool } from "./tools/window.js";
import { text } from "./strings.js";

const SIZES = { least: 1, most: 300 }; // px of the image

export class Desk {
  constructor(review, view, look) {
    this.review = review;
    this.options = { size: 24, positive: true };
    this.polygon = new PolygonTool(review, this.options, view);
    this.tools = new Map(
      [
        new SelectTool(review, view),
        new BoxTool(review),
        new PointsTool(review, this.options),
        new BrushTool(review, this.options, false),
        new BrushTool(review, this.options, true),
        this.polygon,
        new WindowTool(look),
      ].map((tool) => [tool.id, tool]),
    );
    this.tool = this.tools.get("select");
    this.crosshair = new Crosshair(this, review, view);
    this.pointer = null; // where a mouse or pen hovers, in px of the image
    this.outline = outline;
  }

  /** Why a tool cannot be used, or null. */
  missing(id) {
    const { asks } = this.tools.get(id);
    return asks && !this.review.session.backend?.[asks] ? text.noBackend : null;
  }

  take(id) {
    const missing = this.missing(id);
    if (missing) {
      this.review.notice(missing);
      return;
    }
    this.tool.cancel();
    this.crosshair.hide();
    this.tool = this.tools.get(id);
    this.review.changed("tool");
  }

  resize(steps) {
    const { size } = this.options;
    const step = Math.max(1, Math.round(size * 0.12));
    this.options.size = Math.min(Math.max(size + steps * step, SIZES.least), SIZES.most);
    this.review.changed("tool");
  }

  setPositive(positive) {
    this.options.positive = positive;
    this.review.changed("tool");
  }
}
