// Colours of structures: Okabe and Ito's, which colour-blind eyes tell apart, lightened to stand out on black.

const COLOURS = ["#56b4e9", "#e69f00", "#2fc797", "#f0e442", "#e58bbf", "#ff7f50", "#8fa8ff", "#d9d9d9"];

/** A colour for each structure of a frame: by its place in the plane's list, so that it is the same on every frame. */
export function coloursOf(planeStructures, structures) {
  const colours = new Map();
  const free = () => COLOURS.find((colour) => ![...colours.values()].includes(colour));
  for (const id of new Set(structures)) {
    const place = planeStructures.indexOf(id);
    const own = place >= 0 && place < COLOURS.length ? COLOURS[place] : null;
    const taken = [...colours.values()].includes(own);
    colours.set(id, own && !taken ? own : (free() ?? COLOURS[colours.size % COLOURS.length]));
  }
  return colours;
}
