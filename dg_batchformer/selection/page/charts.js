/* Scales, axes, colours; bars by environment. Charts are SVG of a fixed width that scales with the page. */

const PANEL_WIDTH = 360;
const MOST_ROWS = 8;
const COLOURS = 8;

const scale = (from, to, left, right) => (value) => left + ((value - from) / (to - from || 1)) * (right - left);

/* Round numbers that cover a range: about `count` of them. */
function ticks(from, to, count) {
  const raw = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const first = Math.floor(from / step + 1e-9);
  const last = Math.ceil(to / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toFixed(6)));
}

/* A family, an algorithm with and without BatchFormer, has one colour in all tables of the page. */
const familyOf = (algorithm) => algorithm.split("_").filter((part) => part !== "BatchFormer").join("_") || "ERM";
const isVariant = (algorithm) => algorithm.split("_").includes("BatchFormer");

function familyColours(results) {
  const families = new Set(results.flatMap((result) => result.rows.map((row) => familyOf(row.algorithm))));
  return new Map([...families].map((family, i) => [family, `var(--series-${i % COLOURS})`]));
}

/* The rows that a chart draws: those chosen, as far as the filter leaves any; else the first few. */
function rowsToDraw(rows, chosen, most) {
  const kept = rows.filter(({ key }) => chosen.includes(key));
  return kept.length ? kept : rows.slice(0, most);
}

function showBars(result, rows) {
  const drawable = rows.filter(({ row }) => result.environments.some((name) => isNumber(row.cells[name]?.mean)));
  byId("bars-section").hidden = drawable.length === 0;
  const redraw = () => drawBars(result, rowsToDraw(drawable, state.bars, MOST_ROWS));
  const mark = fillPicker(byId("bars-picker"), drawable, rowsToDraw(drawable, state.bars, MOST_ROWS).map(({ key }) => key), (keys) => {
    state.bars = keys;
    mark(rowsToDraw(drawable, state.bars, MOST_ROWS).map(({ key }) => key));
    redraw();
    writeHash();
  });
  redraw();
}

function drawBars(result, rows) {
  const columns = result.columns.filter((name) => result.environments.includes(name) || name === "Avg");
  const cells = rows.flatMap(({ row }) => columns.map((name) => row.cells[name])).filter((cell) => isNumber(cell?.mean));
  const zoomed = Boolean(state.zoom);
  const lows = cells.map((cell) => cell.mean - (cell.error ?? 0));
  const highs = cells.map((cell) => cell.mean + (cell.error ?? 0));
  const axis = zoomed ? ticks(Math.min(...lows), Math.max(...highs), 4) : [0, 25, 50, 75, 100];
  const kinds = new Set(cells.filter((cell) => isNumber(cell.error)).map((cell) => (cell.error_kind === "std" ? "standard deviation" : "standard error")));
  byId("bars-caption").replaceChildren(
    zoomed ? make("b", {}, `The axis starts at ${axis[0]} %, not at 0: `) : "Accuracy in percent; the axis starts at 0. ",
    zoomed ? "compare positions, not lengths. " : "",
    "Filled: base; outlined: with BatchFormer, in the colour of its base. ",
    kinds.size ? `Whiskers: ${[...kinds].join(", of published rows ")}.` : "No whiskers: one trial or none.");
  byId("bars").replaceChildren(...columns.map((column) => make("figure", {},
    make("figcaption", {}, column === "Avg" ? "Average" : column), barPanel(column, rows, axis, zoomed))));
}

function barPanel(column, rows, axis, zoomed) {
  const line = 32;
  const bottom = rows.length * line;
  const x = scale(axis[0], axis.at(-1), 6, PANEL_WIDTH - 10);
  const said = rows.map(({ key, row }) => `${key} ${meanText(row.cells[column] ?? {}) || "no number"}`);
  return draw("svg", { viewBox: `0 0 ${PANEL_WIDTH} ${bottom + 22}`, role: "img", "aria-label": `Accuracy on ${column}: ${said.join("; ")}` },
    axis.map((tick) => draw("g", { class: "axis" },
      draw("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom + 4 }),
      draw("text", { x: x(tick), y: bottom + 17, "text-anchor": tick === axis[0] ? "start" : tick === axis.at(-1) ? "end" : "middle" }, String(tick)))),
    rows.map(({ key, row }, i) => barRow(key, row, row.cells[column] ?? {}, i * line, x, axis[0], zoomed)));
}

function barRow(key, row, cell, top, x, start, zoomed) {
  const value = meanText(cell) || cell.missing || "\u2013";
  const kind = isVariant(row.algorithm) ? "variant" : "base";
  const y = top + 22;
  return draw("g", { class: "bar-row", style: `--series: ${familyColour(row.algorithm)}` },
    draw("title", {}, `${key}: ${value}`),
    draw("text", { x: x(start), y: top + 13 }, shortened(key, 54 - value.length)),
    draw("text", { class: "value", x: PANEL_WIDTH - 10, y: top + 13, "text-anchor": "end" }, value),
    isNumber(cell.mean) && (zoomed
      ? draw("circle", { class: kind, cx: x(cell.mean), cy: y, r: 4 })
      : draw("rect", { class: kind, x: x(start), y: y - 4, width: Math.max(0, x(cell.mean) - x(start)), height: 8 })),
    isNumber(cell.mean) && isNumber(cell.error) && whisker(x(cell.mean - cell.error), x(cell.mean + cell.error), y, zoomed));
}

/* Points keep theirs clear: it runs outside the circle. */
function whisker(from, to, y, behind) {
  const path = `M${from} ${y - 4}v8M${from} ${y}H${to}M${to} ${y - 4}v8`;
  return draw("g", { class: behind ? "whisker thin" : "whisker" }, draw("path", { class: "halo", d: path }), draw("path", { d: path }));
}
