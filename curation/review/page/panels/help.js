// The sheet of all keys.
import { byId, el, icon } from "../dom.js";
import { KEYS, shownKeys } from "../keys.js";
import { text } from "../strings.js";

export function showHelp(keyboard) {
  const dialog = byId("help");
  if (dialog.open) return;
  dialog.replaceChildren(
    el(
      "header",
      {},
      el("h2", { id: "help-title", text: text.keys }),
      el(
        "button",
        {
          type: "button",
          class: "round",
          "aria-label": text.closeSheet,
          onclick: () => dialog.close(),
        },
        icon("cross"),
      ),
    ),
    el("div", { class: "sheets", tabindex: "0", role: "group", "aria-labelledby": "help-title" }, ...KEYS.map(section)),
    el("label", { class: "single" }, single(keyboard), text.singleKeys),
  );
  dialog.showModal();
}

function section({ group, does }) {
  return el(
    "section",
    {},
    el("h2", { text: group }),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        ...does.map((entry) =>
          el(
            "tr",
            {},
            el("td", {}, ...shownKeys(entry).map((key) => el("kbd", { text: key }))),
            el("td", { text: entry.text }),
          ),
        ),
      ),
    ),
  );
}

// Keys without Ctrl get in the way of speech input, which types what it hears.
function single(keyboard) {
  const box = el("input", {
    type: "checkbox",
    onchange: () => {
      keyboard.single = box.checked;
    },
  });
  box.checked = keyboard.single;
  return box;
}
