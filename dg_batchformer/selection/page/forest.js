/* The forest plot: what a modifier changed, base by base, with the pairs of runs themselves. */

const FOREST_WIDTH = 440;
const LANE = 11;

function showForest(result) {
  const modifiers = [...new Set(result.comparisons.map((comparison) => comparison.modifier))];
  byId("forest-section").hidden = modifiers.length === 0;
  if (!modifiers.length) return;
  const modifier = modifiers.includes(state.modifier) ? state.modifier : modifiers[0];
  byId("modifiers").replaceChildren(...modifiers.map((name) => make("button",
    { type: "button", class: "toggle", "aria-pressed": String(name === modifier), onclick: () => chooseModifier(result, name) }, name)));
  const comparisons = result.comparisons.filter((own) => own.modifier === modifier && (matches(own.variant) || matches(own.base)));
  drawForest(comparisons);
}

function chooseModifier(result, name) {
  state.modifier = name;
  showForest(result);
  [...byId("modifiers").children].find((button) => button.textContent === name).focus();
  writeHash();
}

function drawForest(comparisons) {
  const bounds = comparisons.flatMap(({ overall }) =>
    [overall.mean, ...(overall.bootstrap ?? []), ...(overall.t ?? []), ...overall.units.map((unit) => unit.difference)]).filter(isNumber);
  const most = Math.max(1, ...bounds.map(Math.abs));
  const axis = ticks(-most, most, 6);
  const names = [...new Set(comparisons.flatMap(({ overall }) => overall.units.map((unit) => unit.environment)))];
  const left = Math.min(90, 14 + 6 * Math.max(0, ...names.map((name) => name.length)));
  const x = scale(axis[0], axis.at(-1), left, FOREST_WIDTH - 10);
  byId("forest").replaceChildren(...comparisons.map((comparison) => forestItem(comparison, axis, x)),
    comparisons.length ? forestAxis(axis, x) : make("li", { class: "none" }, `No comparison matches \u201c${state.filter}\u201d.`));
}

function forestItem(comparison, axis, x) {
  const { overall, p_holm: holm, n_comparisons: family } = comparison;
  const p = (value) => (value < 0.001 ? "< 0.001" : `= ${value.toFixed(value < 0.1 ? 3 : 2)}`);
  const facts = [
    overall.bootstrap ? `bootstrap ${interval(overall.bootstrap)}` : "too few pairs for an interval",
    overall.t && `t ${interval(overall.t)}`,
    `${plural(overall.wins, "win")}, ${plural(overall.ties, "tie")}, ${overall.losses} ${overall.losses === 1 ? "loss" : "losses"}`,
    isNumber(holm) && `Holm p ${p(holm)} (of ${plural(family, "comparison")})`,
    isNumber(comparison.as_selected) && `as selected, Avg ${signed(comparison.as_selected)}`,
  ];
  return make("li", {},
    make("div", { class: "words" }, make("h3", {}, breakable(comparison.variant)), make("p", { class: "small" }, "less ", breakable(comparison.base)),
      make("p", {}, prose(comparison.words))),
    forestStrip(comparison, axis, x),
    make("div", { class: "stats" }, make("b", {}, isNumber(overall.mean) ? signed(overall.mean) : "\u2013"), ` from ${plural(overall.n, "pair")}`,
      facts.filter(Boolean).map((fact) => make("span", { class: "small" }, fact))));
}

function forestStrip(comparison, axis, x) {
  const { overall } = comparison;
  const byEnvironment = Map.groupBy ? Map.groupBy(overall.units, (unit) => unit.environment) : grouped(overall.units);
  const height = 30 + LANE * byEnvironment.size;
  const line = (name, bounds) => bounds && draw("line", { class: name, x1: x(bounds[0]), x2: x(bounds[1]), y1: 14, y2: 14 });
  return draw("svg", { viewBox: `0 0 ${FOREST_WIDTH} ${height}`, role: "img", "aria-label": `${comparison.variant} less ${comparison.base}: ${comparison.words}` },
    axis.map((tick) => draw("line", { class: tick === 0 ? "zero" : "grid", x1: x(tick), x2: x(tick), y1: 0, y2: height })),
    line("t", overall.t), line("bootstrap", overall.bootstrap),
    isNumber(overall.mean) && draw("rect", { class: "mean", x: x(overall.mean) - 4.5, y: 9.5, width: 9, height: 9 }),
    [...byEnvironment].map(([name, units], i) => lane(name, units, comparison.environments?.[name], 32 + LANE * i, x)));
}

function grouped(units) {
  const groups = new Map();
  for (const unit of units) groups.set(unit.environment, [...(groups.get(unit.environment) ?? []), unit]);
  return groups;
}

function lane(name, units, own, y, x) {
  return draw("g", { class: "lane" },
    draw("text", { x: 0, y: y + 3.5 }, shortened(name, 13)),
    isNumber(own?.mean) && draw("line", { class: "tick", x1: x(own.mean), x2: x(own.mean), y1: y - 5, y2: y + 5 }),
    units.map((unit) => draw("circle", { cx: x(unit.difference), cy: y, r: 2.75 },
      draw("title", {}, `${name}, trial ${unit.trial_seed}: ${signed(unit.difference)}`))));
}

function forestAxis(axis, x) {
  return make("li", { class: "axis-item", "aria-hidden": "true" }, make("div"),
    draw("svg", { viewBox: `0 0 ${FOREST_WIDTH} 34` },
      axis.map((tick) => draw("g", { class: "axis" }, draw("line", { x1: x(tick), x2: x(tick), y1: 0, y2: 4 }),
        draw("text", { x: x(tick), y: 15, "text-anchor": "middle" }, tick > 0 ? `+${tick}` : String(tick).replace("-", MINUS)))),
      draw("text", { class: "side", x: x(0) - 8, y: 31, "text-anchor": "end" }, "\u2190 base is better"),
      draw("text", { class: "side", x: x(0) + 8, y: 31 }, "variant is better \u2192")),
    make("div"));
}
