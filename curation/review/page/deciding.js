// What happens when a person decides: at once on the screen, and as an event in the outbox.
import { newEventId } from "./outbox.js";
import { Stopwatch } from "./stopwatch.js";
import { text } from "./strings.js";

const STATUS = { accept: "accepted", edit: "edited", draw: "accepted", reject: "rejected" };

export class Deciding {
  #watch = new Stopwatch();

  constructor(review) {
    this.review = review;
  }

  /** Something else is looked at: its seconds start now. */
  restart() {
    this.#watch.restart();
  }

  /** Accepts the mask as it is drawn; in the queue of frames, the frame. */
  accept() {
    const { region, moving } = this.review;
    if (moving) return null;
    if (region?.draft?.drawing) return this.review.notice(text.finishStroke); // its rest would not be stored
    if (this.#isAboutFrame) return this.decideFrame("accept");
    if (!region) return this.review.goOn();
    const problem = this.#problemOf(region);
    if (problem) return this.review.notice(problem);
    const action = actionFor(region);
    return action ? this.#decide(action) : this.review.advance();
  }

  /** Rejects the mask; in the queue of frames, the frame. */
  reject() {
    const { region, frame, moving } = this.review;
    if (moving) return null;
    if (this.#isAboutFrame) return this.decideFrame("reject");
    if (!region) return null;
    if (!isUnknown(region)) return this.#decide("reject");
    frame.remove(region);
    return this.review.advance();
  }

  get #isAboutFrame() {
    return this.review.queue.kind === "frames" && !this.review.region?.changed;
  }

  #problemOf(region) {
    if (!region.shown.bounds()) return region.id ? text.emptyMask : text.emptyNew;
    if (region.readings.length && !region.reading && !region.changed)
      return text.questionReadings(this.review.nameOf(region.structure));
    return null;
  }

  #decide(action) {
    const { frame, region, item } = this.review;
    const mask = action === "reject" ? null : region.encoded(); // also what is accepted as it is: it was seen
    if (action === "reject" && region.id) frame.rename(region, region.facts.structure);
    const event = this.#event("region", action, region.draft?.used ?? []);
    Object.assign(event, { region_id: region.id, structure: region.structure, expected: region.event });
    event.reading = region.facts.reading ?? "first";
    const { status, bitmap, draft, readings, reading, structure, facts } = region;
    region.before = { status, bitmap, draft, readings, reading, structure, facts };
    region.facts = { ...facts, structure };
    if (action !== "reject") region.bitmap = region.shown;
    region.status = STATUS[action];
    Object.assign(region, { draft: null, readings: [], reading: null, state: "pending" });
    region.redraw();
    region.item = item;
    this.review.outbox.add(event, region.key, action === "reject", mask);
    this.review.dispatchEvent(
      new CustomEvent("decided", { detail: { action, name: this.review.nameOf(region.structure), frame } }),
    );
    return this.review.advance();
  }

  /** @param {"accept" | "review" | "reject"} verdict */
  decideFrame(verdict) {
    const { frame, item } = this.review;
    if (!frame || this.review.moving) return null;
    const { qc } = frame.facts;
    if (!qc?.verdict) return this.review.notice(text.notJudged);
    frame.before = qc;
    frame.facts.qc = { verdict, reasons: [], event: qc?.event ?? null };
    frame.qcState = "pending";
    frame.item = item;
    this.review.outbox.add(
      { ...this.#event("frame", verdict, []), expected: qc?.event ?? null },
      `frame-${frame.id}`,
      verdict !== "accept",
    );
    this.review.dispatchEvent(new CustomEvent("decided", { detail: { action: verdict, name: null, frame } }));
    if (this.review.queue.kind === "frames" || verdict === "reject") return this.review.goOnKeeping();
    return this.review.changed("frame");
  }

  #event(subject, action, used) {
    return {
      event_id: newEventId(),
      reviewer: this.review.session.reviewer,
      subject,
      frame_id: this.review.frame.id,
      frame_version: this.review.frame.facts.version,
      region_id: null,
      structure: null,
      action,
      mask: null,
      reasons: [],
      expected: null,
      reading: this.review.item.reading,
      used,
      seconds: this.#watch.seconds(),
    };
  }
}

// Nobody but this page has seen it, nor will: it was drawn here, and is not on its way.
const isUnknown = ({ id, state }) => id === null && state !== "pending";

// What accepting means; null where it was decided already and nothing is new.
function actionFor(region) {
  const { readings, reading, shown, status } = region;
  if (isUnknown(region)) return "draw";
  if (reading?.status === "rejected" && reading.bitmap.equals(shown)) return "reject";
  if (region.changed) return "edit";
  return readings.length || status === "proposed" || status === "rejected" ? "accept" : null;
}
