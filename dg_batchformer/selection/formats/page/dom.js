"use strict";
/* Elements, numbers and words. What the document says becomes text nodes and attributes, never HTML. */

const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";
const NONE = "\u2013";

const byId = (id) => document.getElementById(id);

/* Names that begin with "on" are listeners; null and false leave an attribute or a child out. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const button = (attributes, ...children) => make("button", { type: "button", ...attributes }, children);
const small = (...children) => make("span", { class: "small" }, children);
const chart = (width, height, said, ...children) =>
  draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said }, children);

const isNumber = (value) => typeof value === "number";

/* One decimal with a true minus, and no minus before a zero. */
const fixed = (value) => (Number(value.toFixed(1)) + 0).toFixed(1).replace("-", MINUS);
const signed = (value) => (Number(value.toFixed(1)) > 0 ? "+" : "") + fixed(value);
const number = (value) => (isNumber(value) ? fixed(value) : NONE);
const interval = (bounds) => `[${bounds.map(signed).join(", ")}]`;
const plural = (n, word, words = `${word}s`) => `${n} ${n === 1 ? word : words}`;

const hasError = (cell) => isNumber(cell.mean) && isNumber(cell.error);
const errorKind = (cell) => (cell.error_kind === "std" ? "standard deviation" : "standard error");

function meanText(cell) {
  if (!isNumber(cell.mean)) return "";
  return hasError(cell) ? `${fixed(cell.mean)} \u00b1 ${fixed(cell.error)}` : fixed(cell.mean);
}

/* Sentences in which `backticks` mark code. */
const prose = (text) => String(text).split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));

/* A name that may break after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).map((part, i) => [i > 0 && make("wbr"), part]);

/* Cuts the middle out of what is too long for a chart. */
function shortened(text, most) {
  if (text.length <= most) return text;
  const half = Math.floor((most - 1) / 2);
  return `${text.slice(0, half)}\u2026${text.slice(text.length - half)}`;
}
