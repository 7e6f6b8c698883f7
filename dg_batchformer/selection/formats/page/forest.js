/* The forest plot: what a modifier or a given hyper-parameter changed, base by base, with the pairs of runs themselves. */

const FOREST_WIDTH = 440;
const LANE = 11;

function showForest(result) {
  const modifiers = [...new Set(result.comparisons.map((comparison) => comparison.modifier))];
  byId("forest-section").hidden = modifiers.length === 0;
  if (!modifiers.length) return;
  const modifier = modifiers.includes(state.modifier) ? state.modifier : modifiers[0];
  const choose = (event) => {
    state.modifier = event.target.value;
    drawForest(result, state.modifier);
    writeHash();
  };
  const radio = (name) => make("input",
    { type: "radio", name: "modifier", value: name, checked: name === modifier, onchange: choose });
  byId("modifiers").replaceChildren(...modifiers.map((name) => make("label", {}, radio(name), " ", name)));
  drawForest(result, modifier);
}

function drawForest(result, modifier) {
  const comparisons = result.comparisons.filter((comparison) =>
    comparison.modifier === modifier && (matches(comparison.variant) || matches(comparison.base)));
  const numbers = comparisons.flatMap(({ overall }) => [
    overall.mean, ...(overall.bootstrap ?? []), ...(overall.t ?? []), ...overall.units.map((unit) => unit.difference),
  ]).filter(isNumber);
  const most = Math.max(1, ...numbers.map(Math.abs));
  const axis = ticks(-most, most, 6);
  const names = comparisons.flatMap(({ overall }) => overall.units.map((unit) => unit.environment));
  const left = Math.min(90, 14 + 6 * Math.max(0, ...names.map((name) => name.length)));
  const x = scale(axis[0], axis.at(-1), left, FOREST_WIDTH - 10);
  const items = comparisons.map((comparison) => make("li", {},
    forestWords(comparison), forestStrip(comparison, axis, x), forestStats(comparison)));
  const none = make("li", { class: "none" }, `No name has \u201c${state.filter}\u201d.`);
  byId("forest").replaceChildren(...items, items.length ? forestAxis(axis, x) : none);
}

function forestWords({ variant, base, words }) {
  return make("div", { class: "words" },
    make("h3", {}, breakable(variant)), small("less ", breakable(base)), make("p", {}, prose(words)));
}

function forestStats(comparison) {
  const { overall, p_holm: holm, n_comparisons: family, as_selected: selected } = comparison;
  const p = isNumber(holm) && (holm < 0.001 ? "< 0.001" : `= ${holm.toFixed(holm < 0.1 ? 3 : 2)}`);
  const counts = [plural(overall.wins, "win"), plural(overall.ties, "tie"), plural(overall.losses, "loss", "losses")];
  const facts = [
    overall.bootstrap ? `bootstrap ${interval(overall.bootstrap)}` : "too few pairs for an interval",
    overall.t && `t ${interval(overall.t)}`,
    counts.join(", "),
    p && `Holm p ${p} (of ${plural(family, "comparison")})`,
    isNumber(selected) && `as selected, Avg ${signed(selected)}`,
  ];
  return make("div", { class: "stats" },
    make("b", {}, isNumber(overall.mean) ? signed(overall.mean) : NONE), ` from ${plural(overall.n, "pair")}`,
    facts.filter(Boolean).map((fact) => small(fact)));
}

function forestStrip({ variant, base, words, overall, environments }, axis, x) {
  const names = [...new Set(overall.units.map((unit) => unit.environment))];
  const height = 30 + LANE * names.length;
  const line = (name, bounds) => bounds &&
    draw("line", { class: name, x1: x(bounds[0]), x2: x(bounds[1]), y1: 14, y2: 14 });
  return chart(FOREST_WIDTH, height, `${variant} less ${base}: ${words}`,
    axis.map((tick) => draw("line", { class: tick ? "grid" : "zero", x1: x(tick), x2: x(tick), y1: 0, y2: height })),
    line("t", overall.t), line("bootstrap", overall.bootstrap),
    isNumber(overall.mean) && draw("rect", { class: "mean", x: x(overall.mean) - 4.5, y: 9.5, width: 9, height: 9 }),
    names.map((name, i) => forestLane(name, overall.units, environments?.[name]?.mean, 32 + LANE * i, x)));
}

/* The pairs of one environment, with their mean. */
function forestLane(name, units, mean, y, x) {
  const dots = units.filter((unit) => unit.environment === name).map((unit) =>
    draw("circle", { cx: x(unit.difference), cy: y, r: 2.75 },
      draw("title", {}, `${name}, trial ${unit.trial_seed}: ${signed(unit.difference)}`)));
  return draw("g", { class: "lane" },
    draw("text", { x: 0, y: y + 3.5 }, shortened(name, 13)),
    isNumber(mean) && draw("line", { class: "tick", x1: x(mean), x2: x(mean), y1: y - 5, y2: y + 5 }),
    dots);
}

function forestAxis(axis, x) {
  const word = (tick) => (tick > 0 ? `+${tick}` : String(tick).replace("-", MINUS));
  const marks = axis.map((tick) => draw("g", { class: "axis" },
    draw("line", { x1: x(tick), x2: x(tick), y1: 0, y2: 4 }),
    draw("text", { x: x(tick), y: 15, "text-anchor": "middle" }, word(tick))));
  return make("li", { class: "axis-item", "aria-hidden": "true" }, make("div"),
    chart(FOREST_WIDTH, 34, "axis", marks,
      draw("text", { class: "side", x: x(0) - 8, y: 31, "text-anchor": "end" }, "\u2190 base is better"),
      draw("text", { class: "side", x: x(0) + 8, y: 31 }, "variant is better \u2192")));
}
