"use strict";
/* Elements, numbers and words. What the document says becomes text nodes and attributes, never HTML. */

const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";

const byId = (id) => document.getElementById(id);

/* Names that begin with "on" are listeners; null and false leave an attribute out. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== false && child !== ""));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const isNumber = (value) => typeof value === "number";

/* One decimal with a true minus, and no minus before a zero. */
const fixed = (value) => (Number(value.toFixed(1)) + 0).toFixed(1).replace("-", MINUS);
const signed = (value) => (Number(value.toFixed(1)) > 0 ? "+" : "") + fixed(value);
const number = (value) => (isNumber(value) ? fixed(value) : "\u2013");
const interval = (bounds) => `[${bounds.map(signed).join(", ")}]`;
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function meanText(cell) {
  if (!isNumber(cell.mean)) return "";
  return isNumber(cell.error) ? `${fixed(cell.mean)} \u00b1 ${fixed(cell.error)}` : fixed(cell.mean);
}

/* Sentences in which `backticks` mark code. */
const prose = (text) => String(text).split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));

/* A name that may break after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

/* Cuts the middle out of what is too long for a chart. */
function shortened(text, most) {
  if (text.length <= most) return text;
  const half = Math.floor((most - 1) / 2);
  return `${text.slice(0, half)}\u2026${text.slice(text.length - half)}`;
}

/* Checkboxes for the rows of a chart, in a <details>; `onchoice` gets the keys of those that are checked. */
function fillPicker(picker, rows, chosen, onchoice) {
  const boxes = rows.map(({ key }) =>
    make("input", { type: "checkbox", value: key, onchange: () => onchoice(boxes.filter((box) => box.checked).map((box) => box.value)) }));
  const count = make("summary");
  picker.replaceChildren(count, make("div", { class: "boxes" }, boxes.map((box) => make("label", {}, box, " ", box.value))));
  const mark = (keys) => {
    boxes.forEach((box) => { box.checked = keys.includes(box.value); });
    count.textContent = `Rows shown: ${keys.length} of ${rows.length}`;
  };
  mark(chosen);
  return mark;
}
