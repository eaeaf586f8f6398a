// What the server says to decisions, and what follows on the page.
import { bitmapOf } from "./frames.js";

const OUTDATED = ["frame_changed", "region_gone", "reading_changed", "other_mask"]; // why a decision is refused

export class Saving {
  constructor(review) {
    this.review = review;
    this.conflicts = []; // decisions that somebody else's crossed: {event, local, answer}
    this.#listen();
  }

  #listen() {
    const { outbox } = this.review;
    outbox.addEventListener("change", () => this.review.changed("outbox"));
    outbox.addEventListener("saved", ({ detail }) => this.#saved(detail));
    outbox.addEventListener("refused", ({ detail }) => this.#refused(detail));
    outbox.addEventListener("conflict", ({ detail }) => {
      this.conflicts.push(detail);
      this.review.changed("conflicts");
    });
  }

  #saved({ event, local, answer }) {
    this.review.count(answer);
    const { frame, region } = this.#subjectOf(event, local);
    if (!frame) return;
    if (answer.qc) {
      frame.facts.qc = answer.qc;
      frame.qcState = "saved";
    }
    if (region && answer.region) {
      region.id = answer.region.region_id;
      region.event = answer.region.event ?? answer.event.n;
      region.facts = answer.region;
      region.state = this.review.outbox.entries.some((entry) => entry.local === local) ? "pending" : "saved";
    }
    this.review.changed("frame");
  }

  // The page knows too little of the frame by now: asked for anew.
  async #renew(frameId) {
    const { review } = this;
    try {
      const item = await review.reload(frameId);
      if (review.frame?.id === frameId) await review.show(item, review.region?.id, false);
    } catch (error) {
      review.report(error);
    }
  }

  // It comes back: as it was before the decision, with what was drawn, next in the queue. What somebody decided before
  // another one signed in stays as it is: it is stored once they are back.
  #refused({ event, local, error }) {
    const { frame, region } = this.#subjectOf(event, local);
    if (!frame) return;
    if (error.code === "other_reviewer") {
      if (region) region.state = "failed";
      else frame.qcState = "failed";
      this.review.changed("frame");
      return;
    }
    if (event.subject === "frame") {
      frame.facts.qc = frame.before;
      frame.qcState = "failed";
    } else if (region?.before) {
      Object.assign(region, region.before, { state: "failed" });
      region.redraw();
    }
    const item = region?.item ?? frame.item;
    if (item && item !== this.review.item) this.review.queue.comeBack(item);
    if (OUTDATED.includes(error.code)) this.#renew(event.frame_id);
    this.review.changed("frame");
  }

  async keepMine({ event, local, answer }) {
    this.#settle(event);
    if (event.action === "accept" && answer.region && answer.region.mask.counts !== event.mask?.counts) {
      event.action = "edit"; // it puts another mask in the place of theirs
      const { region } = this.#subjectOf(event, local);
      if (region?.status === "accepted") region.status = "edited";
    }
    this.review.outbox.insist(event.event_id, answer.event);
  }

  async takeTheirs({ event, local, answer }) {
    this.#settle(event);
    this.review.outbox.discard(event.event_id);
    const { frame, region } = this.#subjectOf(event, local);
    if (frame && answer.qc) {
      Object.assign(frame.facts, { qc: answer.qc });
      frame.qcState = "saved";
    }
    if (region && answer.region) {
      region.adopt(answer.region, await bitmapOf(answer.region.mask, frame.size.width, frame.size.height));
      Object.assign(region, { draft: null, state: "saved" });
      region.redraw();
    }
    if (!answer.region && !answer.qc) await this.#renew(event.frame_id);
    this.review.changed("frame");
  }

  #settle(event) {
    this.conflicts = this.conflicts.filter((conflict) => conflict.event !== event);
    this.review.changed("conflicts");
  }

  /** Gives up a decision that the server refused. */
  async discard({ event, local }) {
    this.review.outbox.discard(event.event_id);
    const { frame, region } = this.#subjectOf(event, local);
    if (region) region.state = "saved";
    if (frame && event.subject === "frame") frame.qcState = "saved";
    if (frame) await this.#renew(event.frame_id);
    this.review.changed("frame");
  }

  /** Drawings that nobody has decided on. */
  get openDrawings() {
    return this.review.frames
      .all()
      .flatMap(({ regions }) => regions)
      .filter(({ changed }) => changed).length;
  }

  // The frame and the region that an event is about, as far as they are in memory.
  #subjectOf({ frame_id: id }, local) {
    const frames = this.review.frames.all().filter((frame) => frame.id === id);
    const isIt = ({ key }) => key === local;
    const frame = frames.find(({ regions }) => regions.some(isIt)) ?? frames[0] ?? null;
    return { frame, region: frame?.regions.find(isIt) ?? null };
  }
}
