// What is being reviewed: the queue, the frame on screen, and the mask that is asked about.
import * as api from "./api.js";
import { Deciding } from "./deciding.js";
import { Drawing } from "./drawing.js";
import { Frames } from "./frames.js";
import { Outbox } from "./outbox.js";
import { Queue } from "./queue.js";
import { Saving } from "./saving.js";
import { text } from "./strings.js";
import { Undoing } from "./undoing.js";

const AHEAD = 3; // frames that are fetched before they are needed
const EMBEDDED_AHEAD = 2;
const FAULTS = [500, 507]; // of the server itself: it would answer the same again

/** Events: `change` {detail: what}; `notice` {detail: {text, kind}}; `choose` when a structure has to be chosen. */
export class Review extends EventTarget {
  #showing = 0; // counts what was asked to be shown: a frame that arrives late is not
  #embedded = new Set();

  constructor(session, storage) {
    super();
    this.session = session;
    this.progress = session.progress;
    this.undoable = session.undo;
    this.redoable = session.redo;
    this.structures = new Map(session.structures.map(({ id, name }) => [id, name]));
    this.planes = new Map(session.planes.map((plane) => [plane.id, plane]));
    this.frames = new Frames((plane) => this.planes.get(plane)?.structures ?? []);
    this.queue = new Queue("masks");
    this.moving = 0; // frames on their way: what is on screen is being left, and no decision is about it
    this.reading = "first";
    this.item = null; // what is on screen: of the queue, or another image of its cine
    this.frame = null;
    this.region = null;
    this.state = "loading"; // loading, frame, empty or error
    this.error = "";
    this.outbox = new Outbox(api.postDecision, storage);
    this.drawing = new Drawing(this);
    this.deciding = new Deciding(this);
    this.saving = new Saving(this);
    this.undoing = new Undoing(this);
  }

  // ---------------------------------------------------------------------------------- going round

  /** Opens a queue from its start. */
  async openQueue(kind, filters = {}) {
    this.queue = new Queue(kind, filters);
    this.#enter("loading");
    await this.showCurrent();
  }

  async showCurrent(regionId = null) {
    const { queue } = this;
    try {
      await queue.fill();
    } catch (error) {
      if (queue === this.queue) this.#enter("error", error.message);
      return;
    }
    if (queue !== this.queue) return; // another one was opened meanwhile
    const item = queue.current;
    if (item) await this.show(item, regionId);
    else this.#enter("empty");
  }

  /** Shows a frame: at once if it was fetched ahead. */
  async show(item, regionId = null, forward = true) {
    this.moving += 1;
    try {
      await this.#show(item, regionId, forward);
    } finally {
      this.moving -= 1;
    }
  }

  async #show(item, regionId, forward) {
    this.#showing += 1;
    const turn = this.#showing;
    let frame = this.frames.ready(item);
    if (frame && forward && !regionId && this.#lacksMasks(item, frame)) {
      this.frames.outdate(item);
      frame = null;
    }
    if (!frame) {
      this.changed("waiting");
      try {
        frame = await this.frames.get(item);
      } catch (error) {
        if (turn === this.#showing) await this.#cannotShow(item, error);
        return;
      }
      if (turn !== this.#showing) return;
    }
    if (forward && !regionId && this.#allDecided(item, frame)) {
      await this.goOn();
      return;
    }
    this.drawing.cancel();
    frame.arrange(item.regions ?? []);
    this.item = item;
    this.reading = item.reading;
    this.frame = frame;
    this.state = "frame";
    this.select(this.#firstRegion(regionId));
    this.frames.trim(frame);
    this.changed("frame");
    this.#prepareNext();
  }

  /** Goes on to the next frame of the queue; `false` once there is none. */
  async goOn() {
    this.outbox.release();
    await this.goOnKeeping();
  }

  async back() {
    this.outbox.release();
    if (this.item && this.queue.current && this.item !== this.queue.current)
      await this.show(this.queue.current, null, false);
    else if (this.queue.back()) await this.show(this.queue.current, null, false);
    else this.notice(text.lastFrame);
  }

  /** Goes to another image of the cine; the queue stays where it is. */
  async showInSeries(index) {
    const series = this.frame?.facts.series;
    const image = series?.frames[index];
    if (!image || image.frame_id === this.frame.id) return;
    const own = this.queue.current;
    const item = own?.frame_id === image.frame_id ? own : this.itemOf(image.frame_id);
    for (const near of series.frames.slice(index + 1, index + 4)) this.#fetchAhead(this.itemOf(near.frame_id));
    await this.show(item, null, false);
  }

  async goTo(frameId, regionId) {
    const item = this.queue.items.find(({ frame_id: id }) => id === frameId) ?? this.itemOf(frameId, [regionId]);
    this.queue.goTo(item);
    await this.show(item, regionId, false);
  }

  select(region) {
    if (region !== this.region) {
      this.drawing.cancel();
      this.#dropEmpty();
    }
    this.region = region;
    this.deciding.restart();
    this.changed("region");
  }

  /** Selects the structure after (or before) the one that is selected. */
  step(offset) {
    const { regions } = this.frame ?? { regions: [] };
    if (!regions.length) return;
    const at = regions.indexOf(this.region);
    this.outbox.release();
    this.select(regions[(at + offset + regions.length) % regions.length]);
  }

  /** Selects the mask of a structure, or starts one. */
  choose(structure) {
    if (!this.frame) return;
    const found = this.frame.regions.find((region) => region.structure === structure && region.status !== "rejected");
    this.select(found ?? this.frame.addRegion(structure));
  }

  /** The regions that this frame was put into the queue for and that wait for a decision. */
  get openRegions() {
    return this.#openOf(this.item, this.frame);
  }

  get place() {
    const asked = this.#askedOf(this.item, this.frame);
    return { at: asked.indexOf(this.region) + 1, of: asked.length };
  }

  nameOf(structure) {
    return this.structures.get(structure) ?? structure;
  }

  /** To the next frame, while a decision may still wait for its reason. */
  async goOnKeeping() {
    this.moving += 1;
    try {
      if (await this.queue.next()) await this.show(this.queue.current);
      else this.#enter("empty");
    } catch (error) {
      this.report(error);
    } finally {
      this.moving -= 1;
    }
  }

  /** After a decision: to the next mask that waits for one, of this frame or the next. */
  async advance() {
    if (this.queue.kind === "frames") {
      this.select(null); // the frame itself still waits
      return;
    }
    const [next] = this.openRegions;
    if (next) {
      this.select(next);
      return;
    }
    const series = this.frame.facts.series;
    if (this.item !== this.queue.current && series) {
      await this.#advanceInSeries(series);
      return;
    }
    await this.goOnKeeping();
  }

  // After the masks of another image of the cine: the next image with masks, then the queue again.
  async #advanceInSeries(series) {
    const next = series.frames.findIndex(({ masks }, n) => n > series.index && masks);
    if (next >= 0) await this.showInSeries(next);
    else await this.goOnKeeping();
  }

  // ---------------------------------------------------------------------------------- for the other parts

  changed(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  notice(message, kind = "info") {
    this.dispatchEvent(new CustomEvent("notice", { detail: { text: message, kind } }));
  }

  /** What the server says anew of who is here and how far they are. */
  refresh(session) {
    const { reviewer } = this.session;
    if (session.reviewer === reviewer) this.count(session);
    else this.notice(text.otherReviewer(session.reviewer, reviewer), "error");
    this.changed("frame");
  }

  /** Takes what can be undone, and how far everything is. */
  count({ undo, redo, progress }) {
    this.undoable = undo ?? null;
    this.redoable = redo ?? null;
    this.progress = progress ?? this.progress;
  }

  /** Asks for a frame anew. What was drawn and not decided yet stays, if it is still the same picture. */
  async reload(frameId) {
    const old = this.frames.all().filter(({ id }) => id === frameId);
    this.frames.forget(frameId);
    const item = this.queue.items.find(({ frame_id: id }) => id === frameId) ?? this.itemOf(frameId);
    const fresh = await this.frames.get(item);
    const drawn = old.filter(({ facts }) => facts.version === fresh.facts.version).flatMap(({ regions }) => regions);
    for (const { key, id, structure, draft } of drawn) {
      if (!draft?.changed) continue;
      const known = fresh.regions.find((one) => one.key === key || (id && one.id === id));
      (known ?? fresh.addRegion(structure)).draft = draft;
    }
    return item;
  }

  /** Says what went wrong. That the server no longer knows the page is said in its own place. */
  report(error) {
    if (error.status === 401) this.outbox.signedOut = true;
    else this.notice(error.message, "error");
    this.changed("outbox");
  }

  #enter(state, error = "") {
    this.#showing += 1;
    Object.assign(this, { state, error, item: null, frame: null, region: null });
    this.drawing.cancel();
    this.changed("frame");
  }

  async #cannotShow(item, error) {
    if (error instanceof api.ApiError && !error.gone) {
      const failsAgain = FAULTS.includes(error.status);
      if (failsAgain) this.queue.leaveOut(item); // or going on would end at this frame every time
      if (this.frame)
        this.queue.returnTo(this.item); // what is on screen stays there
      else this.#enter("error", error.message);
      this.report(error);
      if (failsAgain) this.notice(text.leftOut, "error");
      return;
    }
    if (!error.gone && !(error instanceof DOMException)) throw error; // a fault of the page: not to be hidden
    this.notice(error.gone ? text.gone : text.notAnImage, error.gone ? "info" : "error");
    this.queue.drop(item);
    await this.showCurrent();
  }

  /** A frame as the queue would give it. */
  itemOf(frameId, regions = null) {
    return { frame_id: frameId, regions, reading: this.reading, p_bad: null };
  }

  // Regions that the queue asks about; all of them, where another way led to the frame.
  #askedOf(item, frame) {
    if (!item || !frame) return [];
    if (!item.regions?.length) return this.queue.kind === "frames" ? [] : frame.regions;
    return item.regions.map((id) => frame.regions.find((region) => region.id === id)).filter(Boolean);
  }

  #openOf(item, frame) {
    return this.#askedOf(item, frame).filter((region) => region.open);
  }

  #allDecided(item, frame) {
    return this.queue.kind === "masks" && item.regions?.length > 0 && this.#openOf(item, frame).length === 0;
  }

  // Masks that are asked about came after the frame was fetched. One with unsaved work stays as it is.
  #lacksMasks(item, frame) {
    const known = new Set(frame.regions.map(({ id }) => id));
    return !frame.precious && (item.regions ?? []).some((id) => !known.has(id));
  }

  // A new mask that nothing was drawn in.
  #dropEmpty() {
    const { region, frame } = this;
    if (region && !region.id && region.state === "saved" && !region.changed) frame?.remove(region);
  }

  #firstRegion(regionId) {
    const { frame, item } = this;
    const asked = regionId && frame.regions.find(({ id }) => id === regionId); // undone: it may be gone
    if (asked) return asked;
    if (this.queue.kind === "frames") return null;
    return this.#openOf(item, frame)[0] ?? this.#askedOf(item, frame)[0] ?? frame.regions[0] ?? null;
  }

  #prepareNext() {
    const ahead = this.queue.ahead(AHEAD);
    for (const item of ahead) this.#fetchAhead(item);
    for (const { frame_id: id } of [this.item, ...ahead.slice(0, EMBEDDED_AHEAD)]) this.#embed(id);
    this.queue.fill().catch(() => {}); // asked again, and reported, when it is needed
  }

  #fetchAhead(item) {
    this.frames.get(item).catch(() => {}); // asked again, and reported, when it is shown
  }

  #embed(frameId) {
    if (!this.session.backend || this.#embedded.has(frameId)) return;
    this.#embedded.add(frameId);
    api.postEmbed(frameId).catch(() => this.#embedded.delete(frameId)); // proposals embed what is not embedded yet
  }
}
