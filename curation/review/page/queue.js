// The queue of frames: fetched a few at a time, walked forth and back.
import { getQueue } from "./api.js";

const LIMIT = 8;
const AHEAD = 5; // items that are known before they are needed

export class Queue {
  #cursor = null;
  #ended = false;
  #loading = null;

  constructor(kind, { structure = "", plane = "" } = {}) {
    this.kind = kind;
    this.structure = structure;
    this.plane = plane;
    this.items = [];
    this.at = 0;
  }

  get current() {
    return this.items[this.at] ?? null;
  }

  /** The next few items, without going to them. */
  ahead(count) {
    return this.items.slice(this.at + 1, this.at + 1 + count);
  }

  /** Makes sure that the item after the current one is known, if there is one. */
  async fill() {
    while (!this.#ended && this.items.length - this.at <= AHEAD) await this.#load();
  }

  /** Goes on; false at the end. Items that are known need no waiting. */
  async next() {
    if (this.at + 1 >= this.items.length) await this.fill();
    this.at = Math.min(this.at + 1, this.items.length);
    return this.current !== null;
  }

  back() {
    if (this.at === 0) return false;
    this.at -= 1;
    return true;
  }

  /** Goes to a frame: where it is in the queue, or put in before the current one. */
  goTo(item) {
    const at = this.items.findIndex((one) => one.frame_id === item.frame_id && one.reading === item.reading);
    if (at >= 0) this.at = at;
    else this.items.splice(this.at, 0, item);
  }

  /** Takes an item out that cannot be shown: the one before it is the current one again, if there is any. */
  leaveOut(item) {
    if (this.current === item) this.back();
    this.drop(item);
  }

  /** Back to an item that is still on screen. */
  returnTo(item) {
    const at = this.items.indexOf(item);
    if (at >= 0) this.at = at;
  }

  /** Puts an item that failed right after the current one, so that it comes back. */
  comeBack(item) {
    if (!this.ahead(2).includes(item)) this.items.splice(this.at + 1, 0, item);
  }

  /** Takes an item out: its frame has left the workspace. */
  drop(item) {
    const at = this.items.indexOf(item);
    if (at < 0) return;
    this.items.splice(at, 1);
    if (at < this.at) this.at -= 1;
  }

  #load() {
    this.#loading ??= this.#fetch().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #fetch() {
    const { kind, structure, plane } = this;
    const { items, cursor } = await getQueue({ kind, structure, plane, after: this.#cursor, limit: LIMIT });
    this.items.push(...items);
    this.#cursor = cursor;
    this.#ended = !cursor || items.length === 0;
  }
}
