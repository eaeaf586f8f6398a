// Finds a structure by a few letters: those of the plane first, then the others.
import { byId, el } from "../dom.js";
import { sentence, text } from "../strings.js";

export class Picker {
  #selected = 0;
  #found = [];

  /** @param choose  called with a structure's id */
  constructor(review, choose) {
    this.review = review;
    this.choose = choose;
    const dialog = byId("picker");
    this.input = el("input", {
      type: "text",
      role: "combobox",
      "aria-expanded": "true",
      "aria-controls": "picker-list",
      "aria-autocomplete": "list",
      "aria-label": text.findStructure,
      placeholder: text.findStructure,
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => {
        this.#selected = 0;
        this.#render();
      },
      onkeydown: (event) => this.#key(event),
    });
    this.list = el("ul", { id: "picker-list", role: "listbox", "aria-label": text.structures });
    this.about = el("p", { class: "about" });
    dialog.append(this.about, this.input, this.list);
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  open(about = "", choose = this.choose) {
    if (!this.review.frame || byId("picker").open) return;
    this.chosen = choose;
    this.about.textContent = about;
    this.about.hidden = !about;
    this.input.value = "";
    this.#selected = 0;
    this.#render();
    byId("picker").showModal();
    this.input.focus();
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.#selected = Math.min(Math.max(this.#selected + step, 0), this.#found.length - 1);
      this.#render();
      event.preventDefault();
    } else if (event.key === "Enter" && this.#found.length) {
      this.#take(this.#found[this.#selected].id);
      event.preventDefault();
    }
  }

  #take(id) {
    byId("picker").close();
    this.chosen(id);
  }

  #render() {
    this.#found = this.#search(this.input.value.trim().toLowerCase());
    this.list.replaceChildren(
      ...(this.#found.length
        ? this.#found.map((one, n) => this.#option(one, n))
        : [
            el("li", {
              class: "none",
              role: "option",
              "aria-selected": "false",
              "aria-disabled": "true",
              text: text.noStructure,
            }),
          ]),
    );
    this.input.setAttribute("aria-activedescendant", this.#found.length ? `pick-${this.#selected}` : "");
    this.list.children[this.#selected]?.scrollIntoView({ block: "nearest" });
  }

  #option({ id, name, note }, n) {
    return el(
      "li",
      {
        id: `pick-${n}`,
        role: "option",
        "aria-selected": String(n === this.#selected),
        onclick: () => this.#take(id),
      },
      sentence(name),
      note ? el("small", { text: note }) : null,
    );
  }

  // Names that begin with what is typed before those that contain it; the plane's own before the others.
  #search(typed) {
    const { frame, session } = this.review;
    const has = new Set(frame.regions.map(({ structure }) => structure));
    const ofPlane = frame.planeStructures;
    const rank = ({ id, name }) => (ofPlane.includes(id) ? 0 : 2) + (name.toLowerCase().startsWith(typed) ? 0 : 1);
    const order = new Map([...ofPlane, ...session.structures.map(({ id }) => id)].map((id, n) => [id, n]).reverse());
    return session.structures
      .filter(({ name }) => name.toLowerCase().includes(typed))
      .sort((a, b) => rank(a) - rank(b) || order.get(a.id) - order.get(b.id))
      .map(({ id, name }) => ({
        id,
        name,
        note: has.has(id) ? text.hasMask : ofPlane.includes(id) ? text.ofPlane : "",
      }));
  }
}
