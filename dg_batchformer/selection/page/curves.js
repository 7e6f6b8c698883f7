/* Learning curves: validation and test accuracy by step, the chosen checkpoint, SWAD's window. */

const CURVE_HEIGHT = 230;
const MOST_CURVES = 2;

function showCurves(result, rows) {
  const drawable = rows.filter(({ row }) => row.curves?.length);
  const environments = [...new Set(drawable.flatMap(({ row }) => row.curves.map((curve) => curve.environment)))];
  byId("curves-section").hidden = drawable.length === 0;
  if (!drawable.length) return;
  const environment = environments.includes(state.environment) ? state.environment : environments[0];
  const choice = byId("environment");
  choice.replaceChildren(...environments.map((name) => make("option", { value: name }, name)));
  choice.value = environment;
  choice.onchange = () => { state.environment = choice.value; showCurves(result, rows); writeHash(); };
  byId("curves-caption").replaceChildren(...curvesKey(result, drawable));
  const chosen = () => rowsToDraw(drawable, state.curves, MOST_CURVES);
  const mark = fillPicker(byId("curves-picker"), drawable, chosen().map(({ key }) => key), (keys) => {
    state.curves = keys;
    mark(chosen().map(({ key }) => key));
    drawCurves(result, chosen(), environment);
    writeHash();
  });
  drawCurves(result, chosen(), environment);
}

function curvesKey(result, rows) {
  const swad = rows.some(({ row }) => row.curves.some((curve) => curve.swad_window));
  return [
    "Of the chosen runs, in percent, one line a trial (its number stands at the end). ",
    make("span", { class: "key" }, make("i", { class: "key-validation" }), " validation"), " ",
    make("span", { class: "key" }, make("i", { class: "key-test" }), " test"), " ",
    make("span", { class: "key" }, make("i", { class: "key-chosen" }), " the chosen checkpoint"), " ",
    swad && make("span", { class: "key" }, make("i", { class: "key-window" }), " SWAD\u2019s window"), " ",
    result.oracle ? make("b", {}, "Here test accuracy chose the checkpoint: not a fair number.") : "Test accuracy was not used for choosing.",
  ].filter(Boolean);
}

function drawCurves(result, rows, environment) {
  const own = rows.map(({ key, row }) => ({ key, curves: row.curves.filter((curve) => curve.environment === environment) }));
  const curves = own.flatMap((panel) => panel.curves);
  let least = 100;
  let most = 0;
  let last = 1;
  for (const curve of curves) {
    for (const value of [...curve.validation, ...curve.test]) {
      if (isNumber(value)) [least, most] = [Math.min(least, value), Math.max(most, value)];
    }
    last = Math.max(last, ...curve.steps);
  }
  const y = ticks(Math.min(least, most), most, 5);
  const figures = own.map(({ key, curves: lines }) => make("figure", {}, make("figcaption", {}, key),
    lines.length ? curvePanel(key, lines, last, y) : make("p", { class: "none" }, `No curves for ${environment}.`)));
  byId("curves").replaceChildren(...figures, make("p", { class: "hint" }, `The vertical axis starts at ${y[0]} %.`));
}

function curvePanel(key, curves, last, levels) {
  const bottom = CURVE_HEIGHT - 32;
  const x = scale(0, last, 30, PANEL_WIDTH - 22);
  const y = scale(levels[0], levels.at(-1), bottom, 8);
  const steps = ticks(0, last, 4).filter((step) => step <= last);
  return draw("svg", { viewBox: `0 0 ${PANEL_WIDTH} ${CURVE_HEIGHT}`, role: "img", "aria-label": `Learning curves of ${key}: ${curves.map(curveWords).join("; ")}` },
    curves.filter((curve) => curve.swad_window).map(({ swad_window: [from, to] }) =>
      draw("rect", { class: "window", x: x(from), y: 8, width: Math.max(1, x(to) - x(from)), height: bottom - 8 })),
    levels.map((level) => draw("g", { class: "axis" }, draw("line", { x1: 30, x2: PANEL_WIDTH - 22, y1: y(level), y2: y(level) }),
      draw("text", { x: 24, y: y(level) + 3.5, "text-anchor": "end" }, String(level)))),
    steps.map((step) => draw("text", { class: "axis-text", x: x(step), y: bottom + 15, "text-anchor": "middle" }, String(step))),
    draw("text", { class: "axis-text", x: (PANEL_WIDTH + 8) / 2, y: CURVE_HEIGHT - 3, "text-anchor": "middle" }, "step"),
    ["test", "validation"].map((kind) => [
      curves.map((curve) => draw("path", { class: `curve ${kind}`, d: pathOf(curve.steps, curve[kind], x, y) })),
      curves.map((curve) => chosenMark(curve, kind, x, y)),
    ]),
    endLabels(curves, y));
}

const curveWords = (curve) => `trial ${curve.trial_seed}${isNumber(curve.chosen) ? `, checkpoint of step ${curve.chosen}` : ""}`
  + (curve.swad_window ? `, SWAD's window ${curve.swad_window.join(" to ")}` : "");

/* A line, broken where there is no number. */
function pathOf(steps, values, x, y) {
  let pen = "M";
  return steps.map((step, i) => {
    if (!isNumber(values[i])) { pen = "M"; return ""; }
    const point = `${pen}${x(step).toFixed(1)} ${y(values[i]).toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
}

function chosenMark(curve, kind, x, y) {
  const value = curve[kind][curve.steps.indexOf(curve.chosen)];
  return isNumber(value) && draw("circle", { class: `chosen ${kind}`, cx: x(curve.chosen), cy: y(value), r: 4 },
    draw("title", {}, `trial ${curve.trial_seed}, step ${curve.chosen}: ${kind} ${fixed(value)}`));
}

/* The trials' numbers where their lines end, pushed apart so that none covers another. */
function endLabels(curves, y) {
  const ends = curves.flatMap((curve) => ["validation", "test"].map((kind) => ({ kind, trial: curve.trial_seed, value: curve[kind].at(-1) })))
    .filter((end) => isNumber(end.value)).sort((a, b) => b.value - a.value);
  let above = -Infinity;
  return ends.map((end) => {
    above = Math.max(above + 9.5, y(end.value) + 3.5);
    return draw("text", { class: `end ${end.kind}`, x: PANEL_WIDTH - 18, y: above }, String(end.trial));
  });
}
