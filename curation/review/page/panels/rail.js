// The tools, from which one is taken in hand.
import { byId, el, icon } from "../dom.js";
import { keysFor } from "../keys.js";
import { text } from "../strings.js";

const GROUPS = [["select"], ["box", "points"], ["brush", "eraser", "polygon"], ["window"]];

export class Rail {
  constructor(desk) {
    this.desk = desk;
    const groups = GROUPS.map((ids) => ids.map((id) => this.#button(id)));
    byId("rail").append(...groups.flatMap((buttons, n) => (n ? [el("hr"), ...buttons] : buttons)));
  }

  render() {
    for (const button of byId("rail").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === this.desk.tool.id));
    }
    byId("stage").dataset.tool = this.desk.tool.id;
  }

  #button(id) {
    const [key] = keysFor(`tool.${id}`);
    const missing = this.desk.missing(id);
    return el(
      "button",
      {
        type: "button",
        "data-tool": id,
        "aria-pressed": "false",
        "aria-label": text.tools[id],
        "aria-disabled": missing ? "true" : null,
        "aria-keyshortcuts": key,
        title: missing ?? `${text.tools[id]} (${key})`,
        onclick: () => {
          this.desk.take(id);
          byId("stage").focus({ preventScroll: true });
        },
      },
      icon(id),
    );
  }
}
