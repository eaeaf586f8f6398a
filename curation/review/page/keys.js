// Every key of the page, in one list: the help sheet, docs/review.md and the page itself read it.

/** `keys` as KeyboardEvent.key, with Shift+, Ctrl+ (or Command) before it; without keys, `shown` is a gesture. */
export const KEYS = [
  {
    group: "Decide",
    does: [
      { id: "accept", keys: ["Enter", "a"], text: "Accept the mask, with your changes" },
      { id: "reject", keys: ["x"], text: "Reject the mask; a digit then gives the reason" },
      { id: "next", keys: [" ", "ArrowRight"], text: "Go on without deciding" },
      { id: "back", keys: ["ArrowLeft"], text: "Back to the frame before" },
      { id: "undo", keys: ["Ctrl+z"], text: "Undo: first your strokes, then your decisions" },
      { id: "redo", keys: ["Ctrl+Shift+z", "Ctrl+y"], text: "Redo" },
    ],
  },
  {
    group: "Structures",
    does: [
      { id: "nextRegion", keys: ["n"], text: "Next structure of this frame" },
      { id: "previousRegion", keys: ["Shift+n"], text: "Structure before" },
      { id: "chooseStructure", keys: ["/"], text: "Find a structure, or start a new mask" },
      { id: "rename", keys: ["l"], text: "It shows another structure: choose which" },
      { id: "nextCandidate", keys: ["Tab"], text: "Next candidate, while there are several" },
      {
        id: "digit",
        keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
        shown: "1 to 9",
        text: "Choose a candidate, or the reason of a rejection",
      },
    ],
  },
  {
    group: "Draw",
    does: [
      { id: "tool.select", keys: ["v"], text: "Select and move" },
      { id: "tool.box", keys: ["r"], text: "Box around a structure" },
      { id: "tool.points", keys: ["p"], text: "Points; Alt-click or right-click: not part of it" },
      { id: "tool.brush", keys: ["b"], text: "Brush" },
      { id: "tool.eraser", keys: ["e"], text: "Eraser" },
      { id: "tool.polygon", keys: ["g"], text: "Polygon; double-click or Enter closes it" },
      { id: "smaller", keys: ["["], text: "Smaller brush; also the mouse wheel" },
      { id: "larger", keys: ["]"], text: "Larger brush" },
      { id: "switchSign", keys: ["i"], text: "Switch points and polygon between add and remove" },
      { id: "reset", keys: ["Backspace", "Delete"], text: "Drop your changes to the mask" },
      { id: "cancel", keys: ["Escape"], text: "Drop the last point of a polygon; close what is open" },
    ],
  },
  {
    group: "Draw with the keyboard alone",
    does: [
      { id: "crosshair", shown: "Arrow keys", text: "Move a crosshair, with a drawing tool; with Shift by one pixel" },
      { id: "press", shown: "Enter or Space", text: "With the crosshair: press and lift, as a mouse button" },
    ],
  },
  {
    group: "Look",
    does: [
      { id: "zoomIn", keys: ["+", "="], text: "Zoom in; also Ctrl and the wheel, or two fingers" },
      { id: "zoomOut", keys: ["-"], text: "Zoom out" },
      { id: "fit", keys: ["0"], text: "Fit the image" },
      { id: "zoomToMask", keys: ["z"], text: "Zoom to the mask" },
      { id: "pan", shown: "Space and drag", text: "Move the image; also the middle button, or two fingers" },
      { id: "outlineOnly", keys: ["o"], text: "Outlines only" },
      { id: "hideMasks", keys: ["h"], text: "Hide the masks, and show them again" },
      { id: "fainter", keys: [";"], text: "Fainter masks" },
      { id: "stronger", keys: ["'"], text: "Stronger masks" },
      { id: "tool.window", keys: ["w"], text: "Window and level: drag sideways and up or down" },
      { id: "resetWindow", keys: ["Shift+w"], text: "Grey levels as stored" },
      { id: "previousImage", keys: [","], text: "Image before in the cine" },
      { id: "nextImage", keys: ["."], text: "Next image in the cine" },
      { id: "play", keys: ["k"], text: "Play or pause the cine" },
    ],
  },
  {
    group: "The frame itself",
    does: [
      { id: "frame.accept", keys: ["Shift+a"], text: "Accept the frame" },
      { id: "frame.review", keys: ["Shift+r"], text: "Mark the frame for review; digits give reasons" },
      { id: "frame.reject", keys: ["Shift+x"], text: "Reject the frame; digits give reasons" },
      { id: "help", keys: ["?"], text: "This sheet" },
    ],
  },
];

const NAMES = {
  " ": "Space",
  ArrowRight: "→",
  ArrowLeft: "←",
  Escape: "Esc",
  "+": "+",
  "-": "−",
};

const byCombination = new Map(
  KEYS.flatMap(({ does }) => does.flatMap(({ id, keys = [] }) => keys.map((key) => [key, id]))),
);

/** What a key is for, or undefined. */
export function actionOf(event) {
  return combinations(event)
    .map((combination) => byCombination.get(combination))
    .find(Boolean);
}

/** The keys of an entry, as people read them: ["Ctrl Z"]. */
export function shownKeys({ keys = [], shown }) {
  return shown
    ? [shown]
    : keys.map((key) =>
        key
          .split(/\+(?=.)/)
          .map(nameOf)
          .join(" "),
      );
}

/** The keys for one action as `aria-keyshortcuts` and titles show them. */
export function keysFor(id) {
  const entry = KEYS.flatMap(({ does }) => does).find((one) => one.id === id);
  return entry ? shownKeys(entry) : [];
}

function nameOf(key) {
  return NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
}

// A letter is known by what it writes or, on other alphabets, by where it is. Shift of other signs is part of them.
function combinations(event) {
  const graph = event.getModifierState?.("AltGraph");
  if (event.altKey && !graph) return [];
  const ctrl = (event.ctrlKey || event.metaKey) && !graph ? "Ctrl+" : "";
  const written = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const place = /^Key([A-Z])$/.exec(event.code)?.[1].toLowerCase();
  const letters = /^[a-z]$/.test(written) ? [written] : /^[ -~]$/.test(written) || !place ? [] : [place];
  if (letters.length) return letters.map((letter) => `${ctrl}${event.shiftKey ? "Shift+" : ""}${letter}`);
  return event.shiftKey && event.key.length > 1 ? [] : [`${ctrl}${written}`];
}
