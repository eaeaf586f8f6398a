// On the image: what is asked, how large it is shown, and what there is instead of an image.
import { byId } from "../dom.js";
import { sentence, text } from "../strings.js";

const WAIT_MS = 200; // before "Loading" is said: most frames are there sooner

export class StageText {
  #waiting = null;

  constructor(review, view) {
    this.review = review;
    this.view = view;
  }

  render() {
    this.#renderQuestion();
    this.#renderEmpty();
    byId("zoom-text").textContent = `${Math.round(this.view.scale * 100)} %`;
    byId("zoom-box").hidden = !this.review.frame;
  }

  /** A frame was asked for that is not here yet. */
  wait() {
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => {
      byId("question").hidden = false;
      byId("question").querySelector(".swatch").hidden = true;
      byId("question-text").textContent = text.loading;
      byId("question-more").textContent = "";
    }, WAIT_MS);
  }

  #renderQuestion() {
    const { review } = this;
    const { frame, region } = review;
    clearTimeout(this.#waiting);
    byId("question").hidden = !frame;
    if (!frame) return;
    const swatch = byId("question").querySelector(".swatch");
    swatch.hidden = !region;
    if (region) swatch.style.background = frame.colours.get(region.structure);
    byId("question-text").textContent = this.question();
    byId("question-more").textContent = this.#more();
  }

  question() {
    const { region, queue, frame } = this.review;
    if (!region)
      return queue.kind === "frames"
        ? text.questionFrame
        : sentence(this.review.planes.get(frame.facts.plane)?.name ?? text.noPlane);
    const name = this.review.nameOf(region.structure);
    if (region.readings.length) return text.questionReadings(name);
    if (region.status === "new") return text.questionNew(name);
    return region.open ? text.question(name) : text.decidedQuestion(name, text.status[region.status]);
  }

  #more() {
    const { region, place } = this.review;
    if (!region) return "";
    const bad = region.facts.p_bad;
    return [
      place.of > 1 && place.at ? text.place(place.at, place.of) : "",
      region.status === "proposed" && typeof bad === "number" && bad >= 0.3 ? text.likelyWrong(bad) : "",
    ]
      .filter(Boolean)
      .join(" · ");
  }

  #renderEmpty() {
    const { state, queue, error } = this.review;
    byId("empty").hidden = state !== "empty" && state !== "error";
    const [title, words] = state === "error" ? [text.cannotLoad, error] : text.empty[queue.kind];
    byId("empty-title").textContent = title;
    byId("empty-text").textContent = words;
    byId("again").textContent = state === "error" ? text.tryAgain : text.lookAgain;
  }
}
