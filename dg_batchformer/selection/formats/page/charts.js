/* Scales, colours, the choice of rows; bars by environment. Charts have a fixed width that scales with the page. */

const PANEL_WIDTH = 360;
const MOST_BARS = 8;
const COLOURS = 8;

const scale = (from, to, left, right) => (value) => left + ((value - from) / (to - from || 1)) * (right - left);

/* Round numbers that cover a range: about `count` of them. */
function ticks(from, to, count) {
  const raw = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const first = Math.floor(from / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(to / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toFixed(6)));
}

/* A family, an algorithm with and without BatchFormer, has one colour in all tables of the page. */
const isVariant = (algorithm) => algorithm.split("_").includes("BatchFormer");
const familyOf = (algorithm) => algorithm.split("_").filter((part) => part !== "BatchFormer").join("_") || "ERM";

function familyColours(results) {
  const families = new Set(results.flatMap((result) => result.rows.map((row) => familyOf(row.algorithm))));
  return new Map([...families].map((family, i) => [family, `var(--series-${i % COLOURS})`]));
}

/* Checkboxes for the rows of a chart. Drawn are those chosen, as far as the filter leaves any; else the first few. */
function showPicker(name, rows, most, onchange) {
  const pick = () => {
    const kept = rows.filter(({ key }) => state[name].includes(key));
    const picked = kept.length ? kept : rows.slice(0, most);
    boxes.forEach((box, i) => { box.checked = picked.includes(rows[i]); });
    count.textContent = `Rows shown: ${picked.length} of ${rows.length}`;
    onchange(picked);
  };
  const choose = () => {
    state[name] = boxes.filter((box) => box.checked).map((box) => box.value);
    pick();
    writeHash();
  };
  const count = make("summary");
  const boxes = rows.map(({ key }) => make("input", { type: "checkbox", value: key, onchange: choose }));
  byId(`${name}-picker`).replaceChildren(count,
    make("div", { class: "boxes" }, boxes.map((box) => make("label", {}, box, " ", box.value))));
  pick();
}

function showBars(result, rows) {
  const drawable = rows.filter(({ row }) => result.environments.some((name) => isNumber(row.cells[name]?.mean)));
  byId("bars-section").hidden = drawable.length === 0;
  if (drawable.length) showPicker("bars", drawable, MOST_BARS, (picked) => drawBars(result, picked));
}

function drawBars(result, rows) {
  const columns = result.columns.filter((name) => result.environments.includes(name) || name === "Avg");
  const cells = rows.flatMap(({ row }) => columns.map((name) => row.cells[name] ?? {}));
  const bounds = cells.filter((cell) => isNumber(cell.mean))
    .flatMap((cell) => [cell.mean - (cell.error ?? 0), cell.mean + (cell.error ?? 0)]);
  const axis = state.zoom ? ticks(Math.min(...bounds), Math.max(...bounds), 4) : [0, 25, 50, 75, 100];
  byId("bars-caption").replaceChildren(...barsCaption(axis[0], cells.filter(hasError)));
  byId("bars").replaceChildren(...columns.map((column) => make("figure", {},
    make("figcaption", {}, column === "Avg" ? "Average" : column), barPanel(column, rows, axis))));
}

function barsCaption(start, cells) {
  const kinds = [...new Set(cells.map(errorKind))];
  return [
    ...(state.zoom ? [make("b", {}, `The axis starts at ${start} %, not at 0:`), " compare positions, not lengths."]
      : ["Accuracy in percent; the axis starts at 0."]),
    " Filled: base; outlined: with BatchFormer, in the colour of its base. ",
    kinds.length ? `Whiskers: ${kinds.join(" or, as the table says, ")}.` : "No whiskers: one trial tells no error.",
  ];
}

function barPanel(column, rows, axis) {
  const line = 32;
  const bottom = rows.length * line;
  const [start, end] = [axis[0], axis.at(-1)];
  const x = scale(start, end, 2, PANEL_WIDTH - 2);
  const anchor = (tick) => ({ [start]: "start", [end]: "end" })[tick] ?? "middle";
  const said = rows.map(({ key, row }) => `${key} ${meanText(row.cells[column] ?? {}) || "no number"}`);
  return chart(PANEL_WIDTH, bottom + 22, `Accuracy on ${column}: ${said.join("; ")}`,
    axis.map((tick) => draw("g", { class: "axis" },
      draw("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom + 4 }),
      draw("text", { x: x(tick), y: bottom + 17, "text-anchor": anchor(tick) }, String(tick)))),
    rows.map(({ key, row }, i) => barRow(key, row, row.cells[column] ?? {}, i * line, x, start)));
}

function barRow(key, row, cell, top, x, start) {
  const value = meanText(cell) || cell.missing || NONE;
  return draw("g", { class: "bar-row", style: `--series: ${familyColour(row.algorithm)}` },
    draw("title", {}, `${key}: ${value}`),
    draw("text", { x: x(start), y: top + 13 }, shortened(key, 54 - value.length)),
    draw("text", { x: PANEL_WIDTH - 2, y: top + 13, "text-anchor": "end" }, value),
    isNumber(cell.mean) && barMarks(cell, isVariant(row.algorithm) ? "variant" : "base", top + 22, x, start));
}

/* A bar that does not start at 0 would mislead: zoomed in there are points, before their whiskers. */
function barMarks(cell, kind, y, x, start) {
  const mean = x(cell.mean);
  const reach = hasError(cell) && [x(cell.mean - cell.error), x(cell.mean + cell.error)];
  const path = reach && `M${reach[0]} ${y - 4}v8M${reach[0]} ${y}H${reach[1]}M${reach[1]} ${y - 4}v8`;
  const whisker = path && draw("path", { class: "whisker", d: path });
  if (state.zoom) return [whisker, draw("circle", { class: kind, cx: mean, cy: y, r: 3.5 })];
  const bar = draw("rect", { class: kind, x: x(start), y: y - 4, width: mean - x(start), height: 8 });
  return [bar, path && draw("path", { class: "halo", d: path }), whisker];
}
