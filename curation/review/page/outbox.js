// The outbox: decisions go to the server one after the other, and none is forgotten before it is acknowledged.
import { ApiError } from "./api.js";
import { text } from "./strings.js";

const HOLD_MS = 2500; // in which a digit can still give the reason
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];

/**
 * Events: `change` whenever what it holds or says changes; `saved` {event, answer}, `conflict` {event, answer} and
 * `refused` {event, error} once for each decision. An entry is {event, state, message}: coding, held, waiting, sending,
 * retrying, conflict or refused; `foreign` if it waits for the reviewer whose it is to sign in.
 */
export class Outbox extends EventTarget {
  #send;
  #ids = new Map(); // of regions that were drawn here, by their local key
  #latest = new Map(); // the last event of each subject that the server acknowledged, for `expected`
  #running = false;
  #wake = null;
  #timer = null;
  #tries = 0;

  constructor(send, storage = null) {
    super();
    this.#send = send;
    this.storage = storage;
    this.entries = this.#stored();
    this.savedAt = null;
    this.signedOut = false;
  }

  /**
   * @param {string} local  what the page calls the region, which has no id before it is saved
   * @param {boolean} hold  wait a moment for a reason before it is sent
   * @param {Promise | null} mask  of the event, while it is coded
   */
  add(event, local, hold = false, mask = null) {
    this.release();
    const isOwn = (entry) => entry.event.reviewer === event.reviewer;
    const replaced = (entry) => entry.local === local && entry.state === "refused" && isOwn(entry);
    this.entries = this.entries.filter((entry) => !replaced(entry));
    const entry = { event, local, state: mask ? "coding" : hold ? "held" : "waiting", message: "" };
    this.entries.push(entry);
    if (hold) this.#timer = setTimeout(() => this.release(), HOLD_MS);
    if (mask) this.#code(entry, mask);
    this.#changed();
    this.#run();
  }

  async #code(entry, mask) {
    entry.event.mask = await mask;
    entry.state = "waiting";
    this.#changed();
    this.#run();
  }

  get held() {
    return this.entries.find((entry) => entry.state === "held")?.event ?? null;
  }

  /** Changes the reasons of the decision that is held, and holds it anew. */
  amend(reasons) {
    const entry = this.entries.find((one) => one.state === "held");
    if (!entry) return;
    entry.event.reasons = reasons;
    this.pause();
    this.#timer = setTimeout(() => this.release(), HOLD_MS);
    this.#changed();
  }

  /** Stops the clock of the decision that is held: somebody is looking at the reasons. */
  pause() {
    clearTimeout(this.#timer);
  }

  resume() {
    this.pause();
    if (this.held) this.#timer = setTimeout(() => this.release(), HOLD_MS);
  }

  /** Sends what is held. */
  release() {
    this.pause();
    const entry = this.entries.find((one) => one.state === "held");
    if (!entry) return;
    entry.state = "waiting";
    this.#changed();
    this.#run();
  }

  /** Tries at once what waits for another try. */
  retry() {
    for (const entry of this.entries) if (entry.state === "refused") entry.state = "waiting";
    this.#tries = 0;
    this.signedOut = false;
    this.#wake?.();
    this.#run();
    this.#changed();
  }

  discard(eventId) {
    this.entries = this.entries.filter(({ event }) => event.event_id !== eventId);
    this.#changed();
  }

  /** Not acknowledged: neither conflicts, which wait for a person, nor what is held for a moment, are failures. */
  get unsaved() {
    return this.entries.length;
  }

  get failure() {
    return this.entries.find(({ state }) => state === "retrying" || state === "refused") ?? null;
  }

  /** Resolves to true once nothing is on its way; to false at a failure, unless it is another reviewer's. */
  async drained() {
    this.release();
    while (this.entries.some(({ state }) => ["coding", "waiting", "sending"].includes(state))) {
      await new Promise((resolve) => this.addEventListener("change", resolve, { once: true }));
    }
    return this.entries.every(({ foreign }) => foreign);
  }

  /** Sends what was left by an earlier visit of the page. */
  start() {
    this.#run();
  }

  /** Sends a decision again that somebody else's crossed: as a new event, which follows theirs. */
  insist(eventId, expected) {
    const entry = this.entries.find(({ event }) => event.event_id === eventId);
    if (!entry) return;
    entry.event = { ...entry.event, event_id: newEventId(), expected };
    this.#latest.set(subjectOf(entry.event), expected);
    entry.state = "waiting";
    this.#changed();
    this.#run();
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let entry = this.#next(); entry; entry = this.#next()) await this.#deliver(entry);
    } finally {
      this.#running = false;
    }
  }

  // Nothing overtakes a mask that is still coded.
  #next() {
    const next = this.entries.find(({ state }) => ["coding", "waiting", "retrying"].includes(state));
    return next?.state === "coding" ? null : next;
  }

  async #deliver(entry) {
    const { event, local } = entry;
    if (event.subject === "region" && !event.region_id) this.#identify(event, local);
    const known = this.#latest.get(subjectOf(event)) ?? null;
    if (known !== null) event.expected = Math.max(known, event.expected ?? known);
    entry.state = entry.state === "retrying" ? "retrying" : "sending";
    this.#changed();
    try {
      const answer = await this.#send(event);
      this.#tries = 0;
      this.signedOut = false;
      this.savedAt = new Date();
      event.region_id ??= answer.region?.region_id ?? null;
      this.#ids.set(local, event.region_id);
      this.#latest.set(subjectOf(event), answer.event.n);
      this.entries = this.entries.filter((one) => one !== entry);
      this.#tell("saved", { event, local, answer });
      this.#changed();
    } catch (error) {
      const known = error instanceof ApiError;
      if (!known) reportError(error); // not to be hidden, and no reason to forget the decision
      await this.#failed(entry, known ? error : new ApiError(0, "no_answer", text.noAnswer));
    }
  }

  // A mask that was drawn here is a region once its first decision is saved; until then, any is its first.
  #identify(event, local) {
    event.region_id = this.#ids.get(local) ?? null;
    if (event.region_id && event.action === "draw") event.action = "edit";
    else if (!event.region_id && event.action === "edit") event.action = "draw";
  }

  async #failed(entry, error) {
    entry.message = error.message;
    this.signedOut = error.status === 401;
    if (error.status === 409 && error.code === "changed_meanwhile") {
      entry.state = "conflict";
      this.#tell("conflict", { event: entry.event, local: entry.local, answer: error.body });
    } else if (error.passing) {
      entry.state = "retrying";
    } else {
      entry.state = "refused";
      entry.foreign = error.code === "other_reviewer";
      entry.message = error.gone ? text.goneDecision : error.message;
      this.#tell("refused", { event: entry.event, local: entry.local, error });
    }
    this.#changed();
    if (entry.state !== "retrying") return;
    const delay = RETRY_MS[Math.min(this.#tries, RETRY_MS.length - 1)];
    this.#tries += 1;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #changed() {
    this.#store();
    this.dispatchEvent(new Event("change"));
  }

  // Survives a reload. A second net: while the page is open, what counts is in memory.
  #store() {
    try {
      this.storage?.setItem(
        "sono-review-unsaved",
        JSON.stringify(this.entries.map(({ event, local }) => ({ event, local }))),
      );
    } catch {
      // No room there: beforeunload still warns.
    }
  }

  #stored() {
    try {
      const entries = JSON.parse(this.storage?.getItem("sono-review-unsaved") ?? "[]");
      return entries.map((entry) => ({ ...entry, state: "waiting", message: "" }));
    } catch {
      return [];
    }
  }
}

/** 32 hex digits. */
export const newEventId = () => crypto.randomUUID().replaceAll("-", "");

// What follows what: decisions on one subject, but readings that decide nothing apart from those that do.
function subjectOf({ region_id: region, frame_id: frame, reading }) {
  return `${region ?? frame} ${reading === "second" || reading === "repeat" ? reading : ""}`;
}
