// Frames as the page holds them: facts, picture and masks, ready to be drawn before they are needed.
import * as api from "./api.js";
import { Bitmap } from "./bitmap.js";
import { encodeMask, decodeMask } from "./coding.js";
import { coloursOf } from "./colours.js";
import { Draft } from "./draft.js";
import { outline } from "./outline.js";

const KEPT = 24; // frames in memory,
const KEPT_BYTES = 6e8; // or fewer, if they are large
const LARGE = 4e6; // px, from which a half-size copy is drawn where the image is shown small

/** One mask of a frame. `status` is what the page shows; `state` whether the server has acknowledged it. */
export class Region {
  #paths = new Map();
  #drawn = null;

  constructor(facts, bitmap) {
    this.key = facts.region_id ?? `new-${crypto.randomUUID()}`;
    this.id = facts.region_id ?? null;
    this.structure = facts.structure;
    this.readings = []; // {label, status, bitmap}, of a region to adjudicate
    this.reading = null; // the one that was chosen
    this.unreadable = false;
    this.adopt(facts, bitmap);
    this.draft = null;
    this.state = "saved"; // saved, pending, failed
  }

  /** Takes what the server says about it. */
  adopt(facts, bitmap) {
    this.id = facts.region_id ?? this.id;
    this.facts = facts;
    this.status = facts.status;
    this.event = facts.event ?? null;
    this.bitmap = bitmap;
  }

  get shown() {
    return this.draft?.bitmap ?? this.bitmap;
  }

  get open() {
    return this.status === "proposed" || this.status === "new";
  }

  /** Something is drawn, or its structure is another one, and not decided. */
  get changed() {
    return Boolean(this.draft?.changed) || (this.id !== null && this.structure !== this.facts.structure);
  }

  /** Starts drawing on it, or goes on. */
  edit() {
    this.draft ??= new Draft(this.bitmap);
    return this.draft;
  }

  /** The outline of what is shown; call `redraw` after the bitmap has changed. */
  path(smooth) {
    if (this.#drawn !== this.shown) this.redraw();
    if (!this.#paths.has(smooth)) this.#paths.set(smooth, outline(this.shown, smooth));
    return this.#paths.get(smooth);
  }

  redraw() {
    this.#paths.clear();
    this.#drawn = this.shown;
  }

  encoded() {
    return encodeMask(this.shown.bits, this.shown.width, this.shown.height);
  }
}

export class Frame {
  constructor(facts, picture, half, regions, planeStructures) {
    this.id = facts.frame_id;
    this.facts = facts;
    this.picture = picture;
    this.half = half;
    this.regions = regions;
    this.planeStructures = planeStructures;
    this.qcState = "saved";
    this.recolour();
  }

  get size() {
    return { width: this.facts.width, height: this.facts.height };
  }

  recolour() {
    this.colours = coloursOf(
      this.planeStructures,
      this.regions.map(({ structure }) => structure),
    );
  }

  /** Puts the regions in the order in which they are asked about, the others after them. */
  arrange(ids) {
    const place = ({ id }) => (ids.includes(id) ? ids.indexOf(id) : ids.length);
    this.regions.sort((one, other) => place(one) - place(other));
  }

  /** A blank mask of a structure, which nobody knows of yet. */
  addRegion(structure) {
    const blank = new Bitmap(this.facts.width, this.facts.height);
    const region = new Region({ structure, status: "new", scores: {}, p_bad: null }, blank);
    this.regions.push(region);
    this.recolour();
    return region;
  }

  /** Says that a mask shows another structure. */
  rename(region, structure) {
    region.structure = structure;
    this.recolour();
  }

  remove(region) {
    this.regions = this.regions.filter((one) => one !== region);
  }

  /** Something on it is not acknowledged, or drawn and not decided: it must not be forgotten. */
  get precious() {
    return this.qcState !== "saved" || this.regions.some(({ changed, state }) => changed || state !== "saved");
  }

  get bytes() {
    return this.size.width * this.size.height * (4 + this.regions.length);
  }

  close() {
    this.picture.close();
    this.half?.close();
  }
}

/** The frames in memory, the ones used longest ago forgotten first. */
export class Frames {
  #frames = new Map(); // key -> Promise of a frame
  #ready = new Map();

  /** @param {(plane: string | null) => string[]} structuresOf  a plane's structures, the important first */
  constructor(structuresOf) {
    this.structuresOf = structuresOf;
  }

  get({ frame_id: id, reading }) {
    const key = `${id} ${reading}`;
    const known = this.#frames.get(key);
    this.#frames.delete(key);
    const promise = known ?? this.#load(key, id, reading);
    this.#frames.set(key, promise);
    const frame = this.#ready.get(key);
    if (frame) {
      this.#ready.delete(key); // the latest last
      this.#ready.set(key, frame);
    }
    return promise;
  }

  /** The frame if it is here already. */
  ready({ frame_id: id, reading }) {
    return this.#ready.get(`${id} ${reading}`) ?? null;
  }

  all() {
    return [...this.#ready.values()];
  }

  find(frameId) {
    return this.all().find(({ id }) => id === frameId) ?? null;
  }

  /** Forgets what is known of a frame, so that it is asked for anew; its picture may still be on screen. */
  forget(frameId) {
    for (const key of [...this.#frames.keys()]) {
      if (!key.startsWith(`${frameId} `)) continue;
      this.#ready.delete(key);
      this.#frames.delete(key);
    }
  }

  /** Forgets one frame that is here already, and that lacks masks by now. */
  outdate({ frame_id: id, reading }) {
    const key = `${id} ${reading}`;
    this.#ready.delete(key);
    this.#frames.delete(key);
  }

  /** Closes frames beyond what memory should hold; never the one on screen or one with unsaved work. */
  trim(current) {
    let bytes = this.all().reduce((sum, frame) => sum + frame.bytes, 0);
    for (const [key, frame] of [...this.#ready]) {
      if (this.#ready.size <= KEPT && bytes <= KEPT_BYTES) return;
      if (frame === current || frame.precious) continue;
      bytes -= frame.bytes;
      frame.close();
      this.#ready.delete(key);
      this.#frames.delete(key);
    }
  }

  async #load(key, id, reading) {
    try {
      const [facts, blob] = await Promise.all([api.getFrame(id), api.getImage(id)]);
      const frame = await build(facts, blob, this.structuresOf(facts.plane));
      this.#ready.set(key, frame);
      return frame;
    } catch (error) {
      this.#frames.delete(key);
      throw error;
    }
  }
}

async function build(facts, blob, planeStructures) {
  const picture = await createImageBitmap(blob);
  const { width, height } = facts;
  const half =
    width * height > LARGE
      ? await createImageBitmap(blob, { resizeWidth: width >> 1, resizeHeight: height >> 1, resizeQuality: "high" })
      : null;
  const regions = [];
  for (const row of facts.regions) {
    const bitmap = await bitmapOf(row.mask, width, height).catch(unreadable);
    const region = new Region(row, bitmap ?? new Bitmap(width, height));
    region.unreadable = bitmap === null;
    for (const { label, status, mask } of row.readings) {
      const read = await bitmapOf(mask, width, height).catch(unreadable);
      if (read) region.readings.push({ label, status, bitmap: read });
    }
    if (region.readings.length) region.status = "proposed";
    regions.push(region);
  }
  const frame = new Frame(facts, picture, half, regions, planeStructures);
  for (const region of regions) {
    region.path(true);
    await breathe();
  }
  return frame;
}

// Lets the page answer in between: frames are made ready while somebody works.
const breathe = () => new Promise((resolve) => setTimeout(resolve));

// A stored mask that cannot be decoded is shown as none, and said so.
function unreadable(error) {
  if (error instanceof RangeError) return null;
  throw error;
}

/** A mask as a bitmap of the image's size; throws RangeError if it is not one. */
export async function bitmapOf(rle, width, height) {
  if (rle.size[0] !== height || rle.size[1] !== width) throw new RangeError("the mask has another size than its image");
  return new Bitmap(width, height, await decodeMask(rle));
}
