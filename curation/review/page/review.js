// What is being reviewed: the frame, the mask that is asked about, and what happens when a person decides.
import * as api from "./api.js";
import { bitmapOf, Frames } from "./frames.js";
import { newEventId, Outbox } from "./decisions.js";
import { Prompter } from "./prompts.js";
import { Queue } from "./queue.js";
import { Stopwatch } from "./stopwatch.js";
import { text } from "./strings.js";

const AHEAD = 3; // frames that are fetched before they are needed
const EMBEDDED_AHEAD = 2;

/** Events: `change` {detail: what}; `notice` {detail: {text, kind}}; `choose` when a structure has to be chosen. */
export class Review extends EventTarget {
  #showing = 0; // counts what was asked to be shown: a frame that arrives late is not
  #embedded = new Set();
  #coding = null; // the mask of a decision that is not in the outbox yet
  #watch = new Stopwatch();

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
    this.item = null; // what is on screen: of the queue, or another image of its cine
    this.frame = null;
    this.region = null;
    this.asked = null; // prompts that have no answer yet
    this.conflicts = [];
    this.state = "loading"; // loading, frame, empty or error
    this.error = "";
    this.outbox = new Outbox(api.postDecision, storage);
    this.prompter = new Prompter((answer) => this.#answered(answer), (error) => this.#promptFailed(error));
    this.#listen();
  }

  // ------------------------------------------------------------------------------------------------ going round

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
    this.#showing += 1;
    const turn = this.#showing;
    let frame = this.frames.ready(item);
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
    this.prompter.cancel();
    this.asked = null;
    this.item = item;
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
    let more;
    try {
      more = await this.queue.next();
    } catch (error) {
      this.notice(error.message, "error");
      return;
    }
    if (more) await this.show(this.queue.current);
    else this.#enter("empty");
  }

  async back() {
    this.outbox.release();
    if (this.item && this.queue.current && this.item !== this.queue.current) await this.show(this.queue.current, null, false);
    else if (this.queue.back()) await this.show(this.queue.current, null, false);
    else this.notice(text.lastFrame);
  }

  /** Goes to another image of the cine; the queue stays where it is. */
  async showInSeries(index) {
    const series = this.frame?.facts.series;
    const image = series?.frames[index];
    if (!image || image.frame_id === this.frame.id) return;
    const own = this.queue.current;
    const item = own?.frame_id === image.frame_id ? own : this.#itemOf(image.frame_id);
    for (const near of series.frames.slice(index + 1, index + 4)) this.#fetchAhead(this.#itemOf(near.frame_id));
    await this.show(item, null, false);
  }

  async goTo(frameId, regionId) {
    const item = this.queue.items.find(({ frame_id: id }) => id === frameId) ?? this.#itemOf(frameId, [regionId]);
    this.queue.goTo(item);
    await this.show(item, regionId, false);
  }

  select(region) {
    if (region !== this.region) {
      this.prompter.cancel();
      this.asked = null;
      this.#dropEmpty();
    }
    this.region = region;
    this.#watch.restart();
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

  // ------------------------------------------------------------------------------------------------ drawing

  /** What tools draw on: the selected mask; null, and a question to the person, if there is none. */
  target() {
    if (!this.frame) return null;
    if (!this.region) {
      this.dispatchEvent(new Event("choose"));
      return null;
    }
    this.outbox.release();
    return this.region.edit();
  }

  /** The bitmap of the selected mask has changed. */
  drew() {
    this.region.redraw();
    this.changed("mask");
  }

  /** Asks the model; the answers come back into the selected mask. */
  prompt({ gesture, tool, prompts, mask }) {
    this.asked = { gesture, prompts };
    this.prompter.ask({ frame: this.frame, region: this.region, gesture, tool, prompts, mask });
    this.changed("prompts");
  }

  chooseCandidate(index) {
    const { region } = this;
    const readings = region?.readings ?? [];
    if (readings[index]) {
      const gesture = "reading";
      region.edit().replace(readings[index].bitmap, { tool: "reading", gesture });
      region.reading = readings[index];
      this.drew();
      return true;
    }
    const draft = region?.draft;
    if (!draft?.candidates[index]) return false;
    const { candidates, gesture, tool } = draft;
    draft.replace(candidates[index].bitmap, { tool, gesture });
    Object.assign(draft, { candidates, chosen: index });
    this.drew();
    return true;
  }

  nextCandidate() {
    const { draft, readings = [], reading } = this.region ?? {};
    if (readings.length > 1) return this.chooseCandidate((readings.indexOf(reading) + 1) % readings.length);
    if (!draft || draft.candidates.length < 2) return false;
    return this.chooseCandidate((draft.chosen + 1) % draft.candidates.length);
  }

  /** Drops what was drawn since the last decision; one step back brings it again. */
  reset() {
    const { region } = this;
    if (!region?.draft) return;
    this.prompter.cancel();
    this.asked = null;
    region.draft.replace(region.draft.base, { tool: "reset", prompts: { box: null, points: [] } });
    region.draft.candidates = [];
    this.drew();
  }

  // A new mask that nothing was drawn in.
  #dropEmpty() {
    const { region, frame } = this;
    if (region && !region.id && region.state === "saved" && !region.draft?.changed) frame?.remove(region);
  }

  #answered({ question, candidates }) {
    const { frame, region, gesture, tool, prompts } = question;
    if (frame !== this.frame || region !== this.region) return;
    if (this.asked?.gesture === gesture && this.asked.prompts === prompts) this.asked = null;
    if (!candidates.length) {
      this.notice(text.nothingFound);
      this.changed("prompts");
      return;
    }
    const draft = region.edit();
    draft.replace(candidates[0].bitmap, { tool, gesture, prompts });
    Object.assign(draft, { candidates, chosen: 0, gesture, tool });
    this.drew();
  }

  #promptFailed(error) {
    this.asked = null;
    this.notice(error.message, "error");
    this.changed("prompts");
  }

  // ------------------------------------------------------------------------------------------------ deciding

  accept() {
    if (this.queue.kind === "frames" && !this.region?.draft?.changed) return this.decideFrame("accept");
    const { region } = this;
    if (!region) return this.goOn();
    const drawn = region.draft?.changed;
    if (!region.shown.bounds()) {
      this.notice(region.id ? text.emptyMask : text.emptyNew, "error");
      return null;
    }
    if (region.readings.length && !region.draft) {
      this.notice(text.questionReadings(this.nameOf(region.structure)));
      return null;
    }
    if (region.reading?.status === "rejected" && region.reading.bitmap.equals(region.shown)) return this.#decide("reject");
    if (!region.id && region.state === "saved") return this.#decide("draw");
    if (!drawn && !region.readings.length && region.status !== "proposed" && region.status !== "rejected") {
      return this.#advance(); // decided already, and nothing is new
    }
    return this.#decide(drawn ? "edit" : "accept");
  }

  reject() {
    if (this.queue.kind === "frames" && !this.region?.draft?.changed) return this.decideFrame("reject");
    const { region, frame } = this;
    if (!region) return null;
    if (!region.id && region.state === "saved") { // nobody else has seen it: there is nothing to reject
      frame.remove(region);
      return this.#advance();
    }
    return this.#decide("reject");
  }

  #decide(action) {
    const { frame, region, item } = this;
    const mask = action === "reject" ? null : region.draft || region.readings.length ? region.encoded() : null;
    const event = this.#event("region", action, region.draft?.used ?? []);
    Object.assign(event, { region_id: region.id, structure: region.structure, expected: region.event });
    region.before = { status: region.status, bitmap: region.bitmap, draft: region.draft, reading: region.reading };
    if (action !== "reject") region.bitmap = region.shown;
    region.status = { accept: "accepted", edit: "edited", draw: "accepted", reject: "rejected" }[action];
    region.draft = null;
    region.redraw();
    region.state = "pending";
    region.item = item;
    this.#put(event, mask, region.key, action === "reject");
    this.dispatchEvent(new CustomEvent("decided", { detail: { action, name: this.nameOf(region.structure), frame } }));
    return this.#advance();
  }

  // Large masks are coded in a worker, so the event may enter the outbox a moment later; it counts as pending till then.
  async #put(event, mask, local, hold) {
    if (mask) {
      this.#coding = mask;
      event.mask = await mask;
    }
    this.outbox.add(event, local, hold);
  }

  decideFrame(verdict) {
    const { frame, item } = this;
    if (!frame) return null;
    const { qc } = frame.facts;
    frame.before = qc;
    frame.facts.qc = { verdict, reasons: [], event: qc?.event ?? null };
    frame.qcState = "pending";
    frame.item = item;
    this.outbox.add(
      { ...this.#event("frame", verdict, []), expected: qc?.event ?? null }, `frame-${frame.id}`, verdict !== "accept",
    );
    this.dispatchEvent(new CustomEvent("decided", { detail: { action: verdict, name: null, frame } }));
    if (this.queue.kind === "frames" || verdict === "reject") return this.goOnKeeping();
    return this.changed("frame");
  }

  #event(subject, action, used) {
    return {
      event_id: newEventId(), subject, frame_id: this.frame.id, region_id: null, structure: null, action, mask: null,
      reasons: [], expected: null, reading: this.item.reading, used, seconds: this.#watch.seconds(),
    };
  }

  /** Goes on to the next frame while a decision still waits for its reason. */
  async goOnKeeping() {
    let more;
    try {
      more = await this.queue.next();
    } catch (error) {
      this.notice(error.message, "error");
      return;
    }
    if (more) await this.show(this.queue.current);
    else this.#enter("empty");
  }

  async #advance() {
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

  // ------------------------------------------------------------------------------------------------ undo and redo

  undo() {
    return this.#back(this.region?.draft?.canUndo && "undo", api.postUndo, text.nothingToUndo, "undo");
  }

  redo() {
    return this.#back(this.region?.draft?.canRedo && "redo", api.postRedo, text.nothingToRedo, "redo");
  }

  async #back(stroke, post, nothing, which) {
    if (stroke) {
      this.prompter.cancel();
      this.asked = null;
      this.region.draft[stroke]();
      this.drew();
      return;
    }
    await this.#coding;
    if (!(await this.outbox.drained())) {
      this.notice(text.waitForSave, "error");
      return;
    }
    if ((which === "undo" ? this.undoable : this.redoable) === null) {
      this.notice(nothing);
      return;
    }
    try {
      await this.#tookBack(await post(), which);
    } catch (error) {
      this.notice(error.message, "error");
    }
  }

  async #tookBack(answer, which) {
    this.#count(answer);
    this.outbox.knows(answer.region_id ?? answer.frame_id, answer.event.n);
    await this.#reload(answer.frame_id);
    await this.goTo(answer.frame_id, answer.region_id);
    const what = this.region && answer.region_id ? this.nameOf(this.region.structure) : text.theFrame;
    this.notice(which === "undo" ? text.undone(what) : text.redone(what));
  }

  // What was drawn and not decided yet stays.
  async #reload(frameId) {
    const old = this.frames.all().filter(({ id }) => id === frameId);
    this.frames.forget(frameId);
    const item = this.queue.items.find(({ frame_id: id }) => id === frameId) ?? this.#itemOf(frameId);
    const fresh = await this.frames.get(item);
    for (const { key, id, structure, draft } of old.flatMap(({ regions }) => regions)) {
      if (!draft?.changed) continue;
      const region = fresh.regions.find((one) => one.key === key || (id && one.id === id)) ?? fresh.addRegion(structure);
      region.draft = draft;
    }
  }

  // ------------------------------------------------------------------------------------------------ the outbox

  #listen() {
    const { outbox } = this;
    outbox.addEventListener("change", () => this.changed("outbox"));
    outbox.addEventListener("saved", ({ detail }) => this.#saved(detail));
    outbox.addEventListener("refused", ({ detail }) => this.#refused(detail));
    outbox.addEventListener("conflict", ({ detail }) => {
      this.conflicts.push(detail);
      this.changed("conflicts");
    });
  }

  #count({ undo, redo, progress }) {
    this.undoable = undo ?? null;
    this.redoable = redo ?? null;
    this.progress = progress ?? this.progress;
  }

  #saved({ event, local, answer }) {
    this.#count(answer);
    const frame = this.frames.find(event.frame_id);
    if (!frame) return;
    if (answer.qc) {
      frame.facts.qc = answer.qc;
      frame.qcState = "saved";
    }
    const region = answer.region && frame.regions.find(({ key }) => key === local);
    if (region) {
      region.id = answer.region.region_id;
      region.event = answer.event.n;
      region.facts = answer.region;
      region.state = this.outbox.entries.some((entry) => entry.local === local) ? "pending" : "saved";
    }
    this.changed("frame");
  }

  // It comes back: as it was before the decision, with what was drawn, next in the queue.
  #refused({ event, local }) {
    const frame = this.frames.find(event.frame_id);
    if (!frame) return;
    const region = frame.regions.find(({ key }) => key === local);
    if (event.subject === "frame") {
      frame.facts.qc = frame.before;
      frame.qcState = "failed";
    } else if (region?.before) {
      Object.assign(region, region.before, { state: "failed" });
      region.redraw();
    }
    const item = region?.item ?? frame.item;
    if (item && item !== this.item) this.queue.comeBack(item);
    this.changed("frame");
  }

  async keepMine({ event, answer }) {
    this.#settle(event);
    this.outbox.insist(event.event_id, (answer.region ?? answer.qc)?.event ?? null);
  }

  async takeTheirs({ event, local, answer }) {
    this.#settle(event);
    this.outbox.discard(event.event_id);
    this.outbox.knows(event.region_id ?? event.frame_id, (answer.region ?? answer.qc)?.event ?? null);
    const frame = this.frames.find(event.frame_id);
    if (frame && answer.qc) {
      Object.assign(frame.facts, { qc: answer.qc });
      frame.qcState = "saved";
    }
    const region = frame?.regions.find(({ key }) => key === local);
    if (region && answer.region) {
      region.adopt(answer.region, await bitmapOf(answer.region.mask, frame.size.width, frame.size.height));
      Object.assign(region, { draft: null, state: "saved" });
      region.redraw();
    }
    this.changed("frame");
  }

  #settle(event) {
    this.conflicts = this.conflicts.filter((conflict) => conflict.event !== event);
    this.changed("conflicts");
  }

  /** Gives up a decision that the server refused. */
  discard({ event, local }) {
    this.outbox.discard(event.event_id);
    const frame = this.frames.find(event.frame_id);
    const region = frame?.regions.find(({ key }) => key === local);
    if (region) region.state = "saved";
    if (frame && event.subject === "frame") frame.qcState = "saved";
    this.changed("frame");
  }

  /** Drawings that nobody has decided on. */
  get openDrawings() {
    return this.frames.all().flatMap(({ regions }) => regions).filter(({ draft }) => draft?.changed).length;
  }

  // ------------------------------------------------------------------------------------------------ parts

  changed(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  notice(message, kind = "info") {
    this.dispatchEvent(new CustomEvent("notice", { detail: { text: message, kind } }));
  }

  #enter(state, error = "") {
    this.#showing += 1;
    Object.assign(this, { state, error, item: null, frame: null, region: null, asked: null });
    this.changed("frame");
  }

  async #cannotShow(item, error) {
    if (error instanceof api.ApiError && !error.gone) {
      this.#enter("error", error.message);
      return;
    }
    this.notice(error.gone ? text.gone : text.notAnImage, "error");
    this.queue.drop(item);
    await this.showCurrent();
  }

  #itemOf(frameId, regions = null) {
    return { frame_id: frameId, regions, reading: this.item?.reading ?? "first", p_bad: null };
  }

  // Regions that the queue asks about; all of them, where another way led to the frame.
  #askedOf(item, frame) {
    if (!item || !frame) return [];
    if (!item.regions?.length) return this.queue.kind === "frames" ? [] : frame.regions;
    return item.regions.map((id) => frame.regions.find((region) => region.id === id)).filter(Boolean);
  }

  #openOf(item, frame) {
    return this.#askedOf(item, frame).filter((region) => region.open && region !== null);
  }

  #allDecided(item, frame) {
    return this.queue.kind === "masks" && item.regions?.length > 0 && this.#openOf(item, frame).length === 0;
  }

  #firstRegion(regionId) {
    const { frame, item } = this;
    if (regionId) return frame.regions.find(({ id }) => id === regionId) ?? null;
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
