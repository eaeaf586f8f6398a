// Starts the page: asks who is here and what there is to do, and joins the parts.
import { Actions } from "./actions.js";
import { getSession } from "./api.js";
import { Painter } from "./canvas.js";
import { Desk } from "./desk.js";
import { byId } from "./dom.js";
import { Keyboard } from "./keyboard.js";
import { Look } from "./look.js";
import { Cine } from "./panels/cine.js";
import { Dock } from "./panels/dock.js";
import { Messages } from "./panels/messages.js";
import { Picker } from "./panels/picker.js";
import { Rail } from "./panels/rail.js";
import { Side } from "./panels/side.js";
import { StageText } from "./panels/stage.js";
import { Top } from "./panels/top.js";
import { Trouble } from "./panels/trouble.js";
import { Pointer } from "./pointer.js";
import { Review } from "./review.js";
import { text } from "./strings.js";
import { View } from "./view.js";

const LONG_MS = 5 * 60 * 1000; // hidden for longer, the page asks whether the server still knows it

async function start() {
  let session;
  try {
    session = await getSession();
  } catch (error) {
    cannotStart(error);
    return;
  }
  document.title = `${session.workspace} · Review`;
  const review = new Review(session, sessionStorage);
  const parts = join(review);
  draw(review, parts);
  narrow();
  wakeUp(review);
  review.outbox.start();
  await review.outbox.drained(); // what an earlier visit left: the queue must know of it
  await review.openQueue("masks");
  byId("stage").focus({ preventScroll: true });
}

function join(review) {
  const view = new View();
  const look = new Look();
  const desk = new Desk(review, view, look);
  const parts = { review, view, look, desk };
  const actions = new Actions(parts);
  parts.pointer = new Pointer(byId("stage"), desk, review, view);
  parts.keyboard = new Keyboard(actions, desk, parts.pointer);
  parts.cine = new Cine(review);
  parts.messages = new Messages(review);
  parts.picker = new Picker(review, (structure) => actions.startMask(structure));
  parts.stageText = new StageText(review, view);
  parts.panels = [
    new Top(review),
    new Rail(desk),
    new Dock(review, desk, actions),
    new Side(review, look, actions),
    parts.stageText,
    parts.cine,
    parts.messages,
    new Trouble(review),
  ];
  parts.painter = new Painter(review, view, look, desk);
  review.addEventListener("choose", () => parts.picker.open(text.chooseFirst));
  byId("help-button").addEventListener("click", () => actions.help());
  byId("zoom-in").addEventListener("click", () => actions.zoomIn());
  byId("zoom-out").addEventListener("click", () => actions.zoomOut());
  byId("zoom-fit").addEventListener("click", () => actions.fit());
  return parts;
}

// Everything is drawn from what there is, once per animation frame at most.
function draw(review, { panels, painter, view, look, stageText, messages }) {
  let asked = false;
  const renderPanels = () => {
    asked = false;
    for (const panel of panels) panel.render();
  };
  review.addEventListener("change", ({ detail: what }) => {
    if (what === "waiting") stageText.wait();
    if (what !== "outbox") painter.request();
    if (what === "pointer" || asked) return;
    asked = true;
    requestAnimationFrame(renderPanels);
  });
  let spoken = "";
  review.addEventListener("change", ({ detail: what }) => {
    if ((what !== "region" && what !== "frame") || !review.frame) return;
    const { at, of } = review.place;
    const words = at ? `${stageText.question()} ${text.place(at, of)}` : stageText.question();
    if (words !== spoken) messages.say(words);
    spoken = words;
  });
  const side = panels.find((panel) => panel.renderLook);
  look.addEventListener("change", () => {
    side.renderLook();
    painter.request();
  });
  side.renderLook();
  const stage = byId("stage");
  new ResizeObserver(() => {
    view.setStage(stage.clientWidth, stage.clientHeight);
    review.changed("view");
  }).observe(stage);
}

// On a small screen the details are a sheet, and hold what the top has no room for.
function narrow() {
  const side = byId("side");
  const button = byId("details-button");
  const show = (open) => {
    side.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => show(!side.classList.contains("open")));
  byId("stage").addEventListener("pointerdown", () => show(false));
  moveAt("(max-width: 900px)", ["filters", "help-button"]);
  moveAt("(max-width: 620px)", ["kinds"]);
}

function moveAt(query, ids) {
  const small = matchMedia(query);
  const section = byId("queue-section");
  const homes = ids.map((id) => [byId(id), byId(id).nextElementSibling]);
  const move = () => {
    if (small.matches) section.prepend(...ids.map(byId));
    else for (const [element, next] of homes) next.before(element);
    section.hidden = !section.children.length;
  };
  small.addEventListener("change", move);
  move();
}

// After a night the server may have been started again: better known before the first decision.
function wakeUp(review) {
  let hiddenAt = null;
  document.addEventListener("visibilitychange", async () => {
    if (document.hidden) {
      hiddenAt = Date.now();
      return;
    }
    if (hiddenAt === null || Date.now() - hiddenAt < LONG_MS) return;
    try {
      review.refresh(await getSession());
    } catch (error) {
      review.outbox.signedOut = error.status === 401;
      review.changed("outbox");
    }
  });
}

function cannotStart(error) {
  byId("empty").hidden = false;
  byId("empty-title").textContent = text.cannotLoad;
  byId("empty-text").textContent = error.status === 401 ? text.signedOut : error.message;
  byId("again").textContent = text.tryAgain;
  byId("again").addEventListener("click", () => location.reload());
}

start();
