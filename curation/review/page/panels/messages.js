// Short messages over the image, and the reasons that a rejection may be given for a moment.
import { byId, el } from "../dom.js";
import { sentence, text } from "../strings.js";

const SHOWN_MS = { info: 2600, error: 6000 };

export class Messages {
  constructor(review) {
    this.review = review;
    review.addEventListener("notice", ({ detail }) => this.show(detail));
    review.addEventListener("decided", ({ detail }) => {
      this.decided = detail;
    });
    review.addEventListener("say", ({ detail }) => this.say(detail));
    const panel = byId("reasons");
    for (const name of ["pointerenter", "focusin"]) panel.addEventListener(name, () => review.outbox.pause());
    for (const name of ["pointerleave", "focusout"]) panel.addEventListener(name, () => review.outbox.resume());
  }

  show({ text: words, kind }) {
    const messages = byId("messages");
    for (const old of [...messages.children]) if (old.textContent === words) old.remove();
    const message = el("div", { class: `message ${kind}`, text: words });
    messages.append(message);
    while (messages.children.length > 3) messages.firstElementChild.remove();
    this.say(words);
    setTimeout(() => message.remove(), SHOWN_MS[kind]);
  }

  /** For screen readers. */
  say(words) {
    byId("say").textContent = words;
  }

  render() {
    const event = this.review.outbox.held;
    const panel = byId("reasons");
    const reasons = event ? this.review.session.reasons[event.subject] : [];
    const shown = Boolean(event) && reasons.length > 0;
    if (panel.hidden === shown) panel.hidden = !shown;
    byId("messages").hidden = shown;
    if (!shown) {
      panel.replaceChildren();
      return;
    }
    const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const what = this.decided?.name
      ? `${sentence(this.decided.name)}: ${text.done[event.action].toLowerCase()}`
      : text.frameDone(text.done[event.action]);
    panel.replaceChildren(
      el("p", { text: text.reasonOf(what) }),
      el(
        "div",
        {},
        ...reasons.map(({ id, name }, n) =>
          el(
            "button",
            {
              type: "button",
              class: "chip",
              "data-key": id,
              "aria-pressed": String(event.reasons.includes(id)),
              onclick: () => this.toggle(n),
            },
            n < 9 ? el("kbd", { text: String(n + 1) }) : null,
            sentence(name),
          ),
        ),
      ),
    );
    if (focused) panel.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  /** Gives or takes back the n-th reason; false if no decision waits for one. */
  toggle(n) {
    const event = this.review.outbox.held;
    const reason = event && this.review.session.reasons[event.subject][n];
    if (!reason) return Boolean(event);
    const { reasons } = event;
    this.review.outbox.amend(
      reasons.includes(reason.id) ? reasons.filter((id) => id !== reason.id) : [...reasons, reason.id],
    );
    return true;
  }
}
