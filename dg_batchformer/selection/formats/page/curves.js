/* Learning curves: validation and test accuracy by step, the chosen checkpoint, SWAD's window. */

const MOST_CURVES = 2;
const CURVES = { width: 360, height: 240, left: 28, right: 342, top: 8, bottom: 208 };

function showCurves(result, rows) {
  const drawable = rows.filter(({ row }) => row.curves?.length);
  byId("curves-section").hidden = drawable.length === 0;
  if (!drawable.length) return;
  const curves = drawable.flatMap(({ row }) => row.curves);
  const environments = [...new Set(curves.map((curve) => curve.environment))];
  const options = byId("environment");
  options.replaceChildren(...environments.map((name) => make("option", { value: name }, name)));
  options.value = environments.includes(state.environment) ? state.environment : environments[0];
  options.onchange = () => {
    state.environment = options.value;
    showCurves(result, rows);
    writeHash();
  };
  byId("curves-caption").replaceChildren("Of the chosen runs, in percent; each line is a trial, numbered at its end. ",
    result.oracle ? make("b", {}, "Test accuracy chose the checkpoint: not a fair number.")
      : "Test accuracy was not used for choosing.");
  byId("window-key").hidden = !curves.some((curve) => curve.swad_window);
  showPicker("curves", drawable, MOST_CURVES, (picked) => drawCurves(picked, options.value));
}

function drawCurves(rows, environment) {
  const panels = rows.map(({ key, row }) => [key, row.curves.filter((curve) => curve.environment === environment)]);
  const curves = panels.flatMap(([, own]) => own);
  const values = curves.flatMap((curve) => [...curve.validation, ...curve.test]).filter(isNumber);
  const steps = curves.flatMap((curve) => curve.steps);
  const least = (numbers) => numbers.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (numbers) => numbers.reduce((a, b) => Math.max(a, b), -Infinity);
  const levels = values.length ? ticks(least(values), most(values), 5) : [0, 100];
  const x = scale(0, Math.max(1, most(steps)), CURVES.left, CURVES.right);
  const y = scale(levels[0], levels.at(-1), CURVES.bottom, CURVES.top);
  const stepMarks = ticks(0, Math.max(1, most(steps)), 4).filter((step) => step <= most(steps));
  byId("curves").replaceChildren(
    ...panels.map(([key, own]) => make("figure", {}, make("figcaption", {}, key), own.length
      ? chart(CURVES.width, CURVES.height, `Learning curves of ${key}: ${own.map(curveWords).join("; ")}`,
        own.map((curve) => swadWindow(curve, x)), curveAxes(levels, stepMarks, x, y), curveLines(own, x, y))
      : make("p", { class: "none" }, `No curves with ${environment} left out.`))),
    make("p", { class: "hint" }, `The vertical axes start at ${levels[0]} %.`));
}

function curveWords({ trial_seed: trial, chosen, swad_window: own }) {
  const point = isNumber(chosen) ? `, chosen at step ${chosen}` : "";
  return `trial ${trial}${point}${own ? `, SWAD's window ${own.join(" to ")}` : ""}`;
}

function swadWindow({ swad_window: own }, x) {
  if (!own) return null;
  const [from, to] = own.map(x);
  const height = CURVES.bottom - CURVES.top;
  return draw("rect", { class: "window", x: from, y: CURVES.top, width: Math.max(1, to - from), height });
}

function curveAxes(levels, steps, x, y) {
  const centre = (CURVES.left + CURVES.right) / 2;
  return draw("g", { class: "axis" },
    levels.map((level) => [
      draw("line", { x1: CURVES.left, x2: CURVES.right, y1: y(level), y2: y(level) }),
      draw("text", { x: CURVES.left - 6, y: y(level) + 3.5, "text-anchor": "end" }, String(level)),
    ]),
    steps.map((step) => draw("text", { x: x(step), y: CURVES.bottom + 15, "text-anchor": "middle" }, String(step))),
    draw("text", { x: centre, y: CURVES.height - 3, "text-anchor": "middle" }, "step"));
}

/* Test below, so that validation, which chooses, stays in sight. */
function curveLines(curves, x, y) {
  const kinds = ["test", "validation"];
  return [
    kinds.map((kind) => [
      curves.map((curve) => draw("path", { class: `curve ${kind}`, d: pathOf(curve.steps, curve[kind], x, y) })),
      curves.map((curve) => chosenMark(curve, kind, x, y)),
    ]),
    endLabels(curves.flatMap((curve) => kinds.map((kind) => (
      { kind, trial: curve.trial_seed, value: curve[kind].at(-1) }))), x, y),
  ];
}

/* A line, broken where there is no number. */
function pathOf(steps, values, x, y) {
  return steps.map((step, i) => {
    if (!isNumber(values[i])) return "";
    return `${isNumber(values[i - 1]) ? "L" : "M"}${x(step).toFixed(1)} ${y(values[i]).toFixed(1)}`;
  }).join("");
}

function chosenMark(curve, kind, x, y) {
  const value = curve[kind][curve.steps.indexOf(curve.chosen)];
  if (!isNumber(value)) return null;
  return draw("circle", { class: `chosen ${kind}`, cx: x(curve.chosen), cy: y(value), r: 3.5 },
    draw("title", {}, `trial ${curve.trial_seed}, step ${curve.chosen}: ${kind} ${fixed(value)}`));
}

/* The trials' numbers where their lines end, pushed apart so that none covers another. */
function endLabels(ends, x, y) {
  let lowest = -Infinity;
  return ends.filter((end) => isNumber(end.value)).sort((a, b) => b.value - a.value).map((end) => {
    lowest = Math.max(lowest + 9.5, y(end.value) + 3.5);
    return draw("text", { class: `end ${end.kind}`, x: CURVES.right + 5, y: lowest }, String(end.trial));
  });
}
