// Beside the image: the structures of the frame, what is known of it, its captions, and how it looks.
import { getHistory } from "../api.js";
import { byId, el, icon, refresh } from "../dom.js";
import { sentence, text, words } from "../strings.js";

export class Side {
  constructor(review, look, actions) {
    this.review = review;
    this.look = look;
    this.actions = actions;
    this.#bindLook();
    byId("find").addEventListener("click", () => actions.run("chooseStructure"));
  }

  render() {
    const { frame } = this.review;
    byId("side").classList.toggle("nothing", !frame);
    this.#renderStructures(frame);
    this.#renderRegion(frame);
    this.#renderFrame(frame);
    this.#renderVerdicts(frame);
    this.#renderCaptions(frame);
  }

  renderLook() {
    const { look } = this;
    byId("opacity").value = Math.round(look.opacity * 100);
    byId("opacity-out").textContent = `${Math.round(look.opacity * 100)} %`;
    byId("window").value = Math.round(look.window);
    byId("window-out").textContent = Math.round(look.window);
    byId("level").value = Math.round(look.level);
    byId("level-out").textContent = Math.round(look.level);
    byId("outline-only").checked = look.outlineOnly;
    byId("look-reset").disabled = look.asStored;
  }

  // ---------------------------------------------------------------------------------- structures

  #renderStructures(frame) {
    const { review } = this;
    const regions = frame?.regions ?? [];
    const missing = (frame?.planeStructures ?? []).filter((id) => !regions.some(({ structure }) => structure === id));
    const signature = JSON.stringify([
      frame?.id,
      regions.map((region) => [region.key, stateOf(region), region.facts.p_bad, region === review.region]),
      missing,
    ]);
    refresh(byId("structures"), signature, () =>
      [
        ...regions.map((region) => this.#region(frame, region)),
        missing.length && frame ? el("li", { class: "rest", text: text.noMaskYet }) : null,
        ...missing.map((id) => this.#missing(id)),
      ].filter(Boolean),
    );
    for (const swatch of byId("structures").querySelectorAll(".swatch[data-colour]"))
      swatch.style.background = swatch.dataset.colour;
  }

  #region(frame, region) {
    const state = stateOf(region);
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "structure",
          "data-key": region.key,
          "aria-current": String(region === this.review.region),
          onclick: () => {
            this.review.outbox.release();
            this.review.select(region);
          },
        },
        el("span", { class: "swatch", "data-colour": frame.colours.get(region.structure) }),
        el("span", { class: "name", text: sentence(this.review.nameOf(region.structure)) }),
        el("span", { class: `state ${state}` }, stateIcon(state), text.status[state] ?? state),
      ),
    );
  }

  #missing(id) {
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "structure missing",
          "data-key": id,
          "aria-label": text.drawNew(this.review.nameOf(id)),
          onclick: () => this.actions.startMask(id),
        },
        el("span", { class: "swatch" }),
        el("span", { class: "name", text: sentence(this.review.nameOf(id)) }),
        icon("plus"),
      ),
    );
  }

  #renderRegion(frame) {
    const { region } = this.review;
    const facts = region?.facts;
    const signature = JSON.stringify([
      frame?.id,
      region?.key,
      facts?.updated_at,
      facts?.source,
      region?.event,
      region?.unreadable,
    ]);
    refresh(byId("region-facts"), signature, () =>
      region
        ? [
            region.unreadable ? caution(text.badMask(this.review.nameOf(region.structure))) : null,
            facts.other_pixels ? caution(text.otherPixels) : null,
            list([
              [text.source, facts.source && words(facts.source)],
              [text.area, area(facts.area_px, frame.facts.pixel_mm)],
              ...Object.entries(facts.scores ?? {}).map(([name, value]) => [words(name), score(value)]),
              [text.decidedBy, facts.reviewer],
            ]),
            showsHistory(region) ? this.#history(region.id) : null,
          ].filter(Boolean)
        : [],
    );
  }

  #history(id) {
    const found = el("ol");
    const details = el(
      "details",
      {
        ontoggle: async () => {
          if (!details.open) return;
          found.replaceChildren(el("li", { text: text.loading }));
          try {
            const { events } = await getHistory(id);
            found.replaceChildren(...(events.length ? events.map(historyLine) : [el("li", { text: text.noHistory })]));
          } catch (error) {
            found.replaceChildren(el("li", { text: error.message }));
          }
        },
      },
      el("summary", { text: text.history }),
      found,
    );
    return details;
  }

  // ---------------------------------------------------------------------------------- the frame

  #renderFrame(frame) {
    const facts = frame?.facts;
    refresh(byId("frame-facts"), JSON.stringify([frame?.id, facts?.qc?.reasons]), () =>
      facts
        ? [
            el("p", { class: "plane-name", text: sentence(this.review.planes.get(facts.plane)?.name ?? text.noPlane) }),
            ...(facts.cleaning_reasons ?? []).map((reason) => caution(words(reason))),
            facts.burned_in_text === "unchecked" ? caution(text.uncheckedText) : null,
            list([
              [text.size, `${facts.width} × ${facts.height}`],
              [text.resolution, facts.pixel_mm && text.unitsOf(facts.pixel_mm)],
              [text.mode, facts.mode && words(facts.mode)],
              [text.scanner, facts.scanner],
              [text.center, facts.center],
              [text.verdictReasons, facts.qc?.reasons.map(words).join(", ")],
            ]),
          ].filter(Boolean)
        : [],
    );
  }

  #renderVerdicts(frame) {
    const verdict = frame?.facts.qc?.verdict ?? null;
    refresh(byId("verdicts"), JSON.stringify([frame?.id, verdict, frame?.qcState]), () =>
      frame
        ? [
            ["accept", "tick"],
            ["review", "flag"],
            ["reject", "cross"],
          ].map(([id, name]) =>
            el(
              "button",
              {
                type: "button",
                "data-key": id,
                "aria-pressed": String(verdict === id),
                title: text.verdictTitles[id],
                onclick: () => this.actions.run(`frame.${id}`),
              },
              icon(name),
              text.verdictShort[id],
            ),
          )
        : [],
    );
  }

  #renderCaptions(frame) {
    const captions = frame?.facts.captions ?? [];
    const current = this.review.region?.id ?? null;
    byId("captions-section").hidden = !frame;
    refresh(byId("captions"), JSON.stringify([frame?.id, current]), () => {
      const shown = captions.filter(({ region_id: id }) => id === null || id === current);
      if (!shown.length) return [el("p", { class: "none", text: text.noCaptions })];
      return shown.map(({ region_id: id, text: caption }) =>
        el("p", { class: id ? "region current" : "", text: caption }),
      );
    });
  }

  // ---------------------------------------------------------------------------------- look

  #bindLook() {
    const { look } = this;
    byId("opacity").addEventListener("input", ({ target }) => look.setOpacity(target.value / 100));
    byId("window").addEventListener("input", ({ target }) => look.setWindow(Number(target.value), look.level));
    byId("level").addEventListener("input", ({ target }) => look.setWindow(look.window, Number(target.value)));
    byId("outline-only").addEventListener("change", ({ target }) => look.setOutlineOnly(target.checked));
    byId("look-reset").addEventListener("click", () => look.resetWindow());
  }
}

function stateOf(region) {
  if (region.state !== "saved") return region.state;
  if (region.changed) return "editing";
  return region.readings.length ? "reading" : region.status;
}

// Who reads again, or decides between two readers, must not see who decided what before.
const showsHistory = ({ id, facts }) => id !== null && (facts.reading ?? "first") === "first";

function stateIcon(state) {
  const name = { accepted: "tick", edited: "tick", rejected: "cross", failed: "alert" }[state];
  return name ? icon(name) : null;
}

function list(entries) {
  const shown = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return shown.length
    ? el("dl", {}, ...shown.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]))
    : null;
}

const caution = (words_) => el("p", { class: "caution" }, icon("alert"), words_);

function area(px, mm) {
  if (px === null || px === undefined) return null;
  return mm ? text.squareCm((px * mm[0] * mm[1]) / 100) : text.squarePx(px);
}

const score = (value) => (typeof value === "number" ? value.toFixed(2) : null);

function historyLine({ at, reviewer, action, iou, tool }) {
  const used = (tool?.used ?? []).map((name) => (text.tools[name] ?? name).toLowerCase()).join(", ");
  const more = [text.moment(new Date(at)), used, typeof iou === "number" ? `IoU ${iou.toFixed(2)}` : ""]
    .filter(Boolean)
    .join(" · ");
  return el(
    "li",
    {},
    `${text.done[action] ?? words(action)}${reviewer ? ` · ${reviewer}` : ""}`,
    el("small", { text: more }),
  );
}
