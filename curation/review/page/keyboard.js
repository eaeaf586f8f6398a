// Keys of the page: which of them are meant for it, and Space, which goes on, or moves the image while it is held.
import { byId } from "./dom.js";
import { actionOf } from "./keys.js";

const REPEATABLE = new Set([
  "undo",
  "redo",
  "smaller",
  "larger",
  "zoomIn",
  "zoomOut",
  "fainter",
  "stronger",
  "previousImage",
  "nextImage",
  "nextRegion",
  "previousRegion",
  "nextCandidate",
]);

export class Keyboard {
  constructor(actions, desk, pointer) {
    Object.assign(this, { actions, desk, pointer, single: true });
    window.addEventListener("keydown", (event) => this.#down(event));
    window.addEventListener("keyup", (event) => this.#up(event));
    window.addEventListener("blur", () => pointer.space(false));
  }

  #down(event) {
    if (event.defaultPrevented || event.isComposing || isTaken(event)) return;
    if (this.#onStage() && this.desk.crosshair.key(event)) {
      event.preventDefault();
      return;
    }
    if (event.key === " " && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      if (!event.repeat) this.pointer.space(true);
      return;
    }
    const action = actionOf(event);
    if (!action || (event.repeat && !REPEATABLE.has(action))) return;
    if (!this.single && !event.ctrlKey && !event.metaKey && event.key.length === 1) return;
    const done = action === "digit" ? this.actions.digit(event.key) : this.actions.run(action);
    if (done !== false) event.preventDefault();
  }

  #up(event) {
    if (event.key !== " " || !this.pointer.spaceDown) return;
    const { spaceUsed } = this.pointer;
    this.pointer.space(false);
    if (!spaceUsed && this.single) this.actions.run("next");
  }

  #onStage() {
    return document.activeElement === byId("stage") || document.activeElement === document.body;
  }
}

// Typing goes into fields, Enter and Space into buttons, arrows into sliders and lists; a dialog keeps its keys.
function isTaken({ target, key }) {
  if (document.querySelector("dialog[open]")) return true;
  if (!(target instanceof Element)) return false;
  if (target.closest("select, textarea, input:not([type=range]):not([type=checkbox])")) return true;
  if (target.closest("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(key);
  if (key === "Tab") return target.id !== "stage";
  return (key === "Enter" || key === " ") && target.closest("button, summary, a, input[type=checkbox]") !== null;
}
