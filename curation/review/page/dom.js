// Elements, made in one line.

/** An element with attributes, `on...` listeners and children; `class`, `text` and `hidden` are set as such. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Replaces children only if `signature` is another one than last time, and keeps the focus where it was. */
export function refresh(parent, signature, make) {
  if (parent.dataset.signature === signature) return;
  parent.dataset.signature = signature;
  const active = parent.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  parent.replaceChildren(...make());
  if (active) parent.querySelector(`[data-key="${CSS.escape(active)}"]`)?.focus();
}
