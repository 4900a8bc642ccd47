"use strict";
// Everything on the page is made here, of elements and text nodes: no string is ever read as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const results = data.results;
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A choice with a label; options are pairs of value and text. */
function choice(label, options, value, onchange) {
  const select = make("select", { onchange: () => onchange(select.value) });
  select.append(...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
  return make("label", { class: "choice" }, make("span", {}, label), select);
}

/** A part that scrolls sideways, whose right edge is shaded while there is more. */
function scroller(label, kind, ...children) {
  const holder = make("div", { class: `scroll ${kind}`, role: "region", tabindex: "0", "aria-label": label }, children);
  const edge = make("div", { class: "edge" }, holder);
  const shade = () => edge.classList.toggle("more", holder.scrollLeft + holder.clientWidth < holder.scrollWidth - 1);
  holder.addEventListener("scroll", shade, { passive: true });
  new ResizeObserver(shade).observe(holder);
  return { edge, holder, shade };
}

/** A number as written by the page: missing is null, infinity comes as a word. */
const number = (value) => (value === null || value === undefined ? null : Number(value));

function format(value, digits) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return value.toFixed(digits).replace("-", "−");
}

/** Three digits of a quantity of any magnitude, fewer where it is below a thousandth. */
function short(value) {
  if (value === null || value === 0 || !Number.isFinite(value)) return format(value, 0);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value >= 1000 ? Math.round(value).toLocaleString("en") : format(value, Math.min(digits, 5));
}

/** The same for a tick, of which only the digits that count are shown. */
const tidy = (value) => (value >= 1000 ? short(value) : String(Number(value.toPrecision(3))));

const size = (shape) => shape.join(" × ");
const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);
const isMeasured = (row) => row.kind === "measured";
