/* Elements, numbers and words. What the document says becomes text nodes and attributes, never HTML. */

const NONE = "\u2013";

const byId = (id) => document.getElementById(id);

/* What Python packed: JSON, compressed, in letters. */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

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
const button = (attributes, ...children) => make("button", { type: "button", ...attributes }, children);
const small = (...children) => make("span", { class: "small" }, children);

/* A plain table in a box that scrolls. */
const grid = (kind, head, lines) => make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": kind },
  make("table", { class: "grid" },
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, lines.map((line) => make("tr", {}, line.map((value) => make("td", {}, value)))))));

const isNumber = (value) => typeof value === "number";
const fixed = (value) => value.toFixed(1);
const number = (value) => (isNumber(value) ? fixed(value) : NONE);
const plural = (n, word, words = `${word}s`) => `${n} ${n === 1 ? word : words}`;
const hasError = (cell) => isNumber(cell.mean) && isNumber(cell.error);

function meanText(cell) {
  if (!isNumber(cell.mean)) return "";
  return hasError(cell) ? `${fixed(cell.mean)} \u00b1 ${fixed(cell.error)}` : fixed(cell.mean);
}

/* Sentences in which `backticks` mark code. */
const prose = (text) => String(text).split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));

/* A name that may break after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).map((part, i) => [i > 0 && make("wbr"), part]);
