"""Vega-Lite specifications: accuracies by environment and by class, paired differences, and learning curves."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt

from dg_batchformer.charts import BLUE, CONFIG, FAINT, INK, Chart, Look, counts
from dg_batchformer.selection.blocks import p_value
from dg_batchformer.selection.compare import HYPER_PARAMETER
from dg_batchformer.selection.inference import LEVEL

ACCURACIES = (
    "Accuracy in percent; each panel has its own axis, which does not start at 0. Filled: with BatchFormer; hollow: "
    "without it; squares: published. Whiskers: standard error over trials; without caps: standard deviation, as "
    "published. *: some of the runs are missing."
)
FOREST = (
    "Runs of equal environment, trial and hparams_seed are compared. Diamond: mean; thick: 95 % interval for these "
    "environments; thin: for new environments; dots: pairs; ticks: each environment's mean. Right: wins/ties/losses of "
    "the change, and p for these environments; intervals and p are corrected for the comparisons of a family; in blue "
    f"where p < {LEVEL}."
)
CURVES = (
    "Runs with the chosen hyper-parameters, one test environment in each panel. Test: accuracy there; validation: on "
    "the out-splits of the training environments. Thick lines: means over trials; thin: each trial's test; dots: the "
    "chosen models; bars at the bottom: steps that SWAD averaged."
)
CLASSES = (
    "Accuracy in percent of each class in each test environment, mean over trials; in brackets its training images, in "
    "all training environments or, if none is left out, in its own."
)
SPLITS = ["test", "validation"]
FEW_CLASSES = 12  # up to so many, their numbers are written
PANEL = 165, 95  # width and height of learning curves
LINE, WIDTH = 11, 190  # pixels between the lines of a label, and of the forest plot


def points(result: Mapping[str, Any], looks: Mapping[str, Look]) -> Iterator[Chart]:
    """The accuracies of a result, and the forest plot of its comparisons unless no runs are paired."""
    rows = list(accuracy_rows(result, looks))
    yield Chart("accuracies", "accuracy", ACCURACIES, accuracies_of(step(rows)), rows)
    if rows := [row for one in result["comparisons"] if one["overall"]["n"] for row in difference_rows(one)]:
        yield Chart("forest", "what was changed", FOREST, forest_of(step(rows)), rows)


def accuracy_rows(result: Mapping[str, Any], looks: Mapping[str, Look]) -> Iterator[dict[str, Any]]:
    """A row for each algorithm and environment, and for the average; algorithms of one hue stand together."""
    columns = [name for name in result["columns"] if name == "Avg" or name in result["environments"]]
    for row in sorted(result["rows"], key=lambda row: looks[row["algorithm"]].place):
        look = looks[row["algorithm"]]
        name = f"{row['label']} ({row['source']})" if row["source"] else row["label"]
        for place, column in enumerate(columns):
            cell = row["cells"].get(column, {})
            mean, error = cell.get("mean"), cell.get("error")
            ends = [mean - error, mean + error] if mean is not None and error is not None else None
            yield {
                "names": [name],
                "label": label(name),
                "panel": "Average" if column == "Avg" else column,
                "place": place,
                "mean": mean,
                "ends": ends,
                "caps": ends if ends and cell["error_kind"] == "stderr" else None,
                "colour": look.colour,
                "fill": look.colour if look.filled else "white",
                "shape": "square" if row["source"] else "circle",
                "star": "*" if mean is not None and cell["missing"] else "",
                "none": "no number" if mean is None else "",
            }


def difference_rows(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for the mean of a comparison, with its intervals, and a row for each pair of runs and each environment."""
    overall, p = comparison["overall"], comparison["p"]
    # A row with more given hparams may have several bases; otherwise the modifier above names the difference.
    is_given = comparison["modifier"] == HYPER_PARAMETER
    name = f"{comparison['change']}, {comparison['base']}" if is_given else comparison["variant"]
    names = [comparison["variant"], comparison["base"]]
    common = {"names": names, "label": label(name), "modifier": comparison["modifier"], "counts": "", "p": ""}
    yield {
        **common,
        "mean": overall["mean"],
        **{name: comparison[name] for name in ("interval", "new_interval")},
        "counts": counts(overall),
        "p": "" if p is None else p_value(p),
        "colour": BLUE if p is not None and p < LEVEL else FAINT,
    }
    of_environments: dict[str, list[float]] = {}
    for unit in overall["units"]:
        yield {**common, **unit}
        of_environments.setdefault(unit["environment"], []).append(unit["difference"])
    for environment, differences in of_environments.items():
        yield {**common, "environment": environment, "of_environment": sum(differences) / len(differences)}


def label(text: str) -> str:
    """A text in lines short enough to stand beside a panel."""
    return "\n".join(textwrap.wrap(text, 32, break_on_hyphens=False))


def step(rows: Sequence[Mapping[str, Any]]) -> int:
    """Pixels of a row, for the longest of these labels."""
    return max(26, LINE * max(row["label"].count("\n") + 1 for row in rows) + 8)


def lines() -> Any:
    """Rows by label; the lines of a label are centred on the row and have its colour."""
    lines = "split(datum.label, '\\n')"
    lift = [{"test": f"length({lines}) == {n}", "value": -LINE * (n - 1) / 2} for n in range(2, 16)]
    offset = {"condition": lift, "value": 0}
    axis = alt.Axis(labelExpr=lines, labelOffset=offset, labelLineHeight=LINE, ticks=False, domain=False)
    y = alt.Y("label:N", sort=None, title=None, axis=axis)
    return alt.Chart().encode(y=y, color=alt.Color("colour:N", scale=None))


def panels(layers: Sequence[Any], width: Any, height: Any, **facet: Any) -> Any:
    """A chart of layers over the data `rows`, with a panel for each value of a field."""
    layered = alt.layer(*layers).properties(width=width, height=height)
    return layered.facet(data=alt.NamedData("rows"), **facet).configure(**CONFIG)


@cache
def accuracies_of(step: int) -> dict[str, Any]:
    base = lines()
    mean = alt.X("mean:Q").title(None).scale(zero=False, padding=4).axis(tickCount=4)
    fill, shape = alt.Fill("fill:N", scale=None), alt.Shape("shape:N", scale=None)
    tooltip = ["names:N", "panel:N", alt.Tooltip("mean:Q", format=".1f")]
    layers = [
        base.mark_rule().encode(x="ends[0]:Q", x2="ends[1]:Q"),
        *(base.mark_tick(size=7).encode(x=f"caps[{end}]:Q") for end in (0, 1)),
        base.mark_point(size=45).encode(mean, fill, shape, tooltip=tooltip),
        base.mark_text(dx=7, dy=-5, fontSize=13).encode(x=mean, text="star:N"),
        base.mark_text(align="left").encode(x=alt.value(4), text="none:N", color=alt.value(FAINT)),
    ]
    facet = alt.Facet("panel:N", sort=alt.EncodingSortField("place", op="min"))
    return dict(panels(layers, 105, alt.Step(step), facet=facet, columns=3).resolve_scale(x="independent").to_dict())


@cache
def forest_of(step: int) -> dict[str, Any]:
    base = lines()
    mean = alt.X("mean:Q").title("points, with the change minus without it").scale(padding=4).axis(tickCount=5)
    beside = base.mark_text(align="right")
    tooltip = ["names:N", alt.Tooltip("mean:Q", format="+.1f"), "counts:N", "p:N"]
    pair = base.mark_point(size=7, filled=True, yOffset=7)
    told_of_pair = ["environment:N", "trial_seed:N", alt.Tooltip("difference:Q", format="+.1f")]
    layers = [
        alt.Chart().mark_rule(color=INK).encode(x=alt.datum(0)),
        base.mark_rule().encode(x="new_interval[0]:Q", x2="new_interval[1]:Q"),
        base.mark_rule(size=3).encode(x="interval[0]:Q", x2="interval[1]:Q"),
        pair.encode(x="difference:Q", color=alt.value("#9a9a9a"), tooltip=told_of_pair),
        base.mark_tick(size=9, thickness=1.5, yOffset=7).encode(
            x="of_environment:Q",
            color=alt.value(INK),
            tooltip=["environment:N", alt.Tooltip("of_environment:Q", format="+.1f")],
        ),
        base.mark_point(shape="diamond", size=55, filled=True).encode(x=mean, tooltip=tooltip),
        beside.encode(x=alt.value(WIDTH + 42), text="counts:N"),
        beside.encode(x=alt.value(WIDTH + 82), text="p:N"),
    ]
    row = alt.Row("modifier:N", sort=None, header=alt.Header(labelOrient="top", labelAnchor="start", labelAngle=0))
    return dict(panels(layers, WIDTH, alt.Step(step), row=row).resolve_scale(y="independent").to_dict())


def classes(result: Mapping[str, Any]) -> Iterator[Chart]:
    """A heat map of classes and environments for the algorithms of a result on a long tail."""
    rows = [
        {"names": [row["label"]], "label": row["label"], "place": place, **one}
        for row in result["rows"]
        for place, one in enumerate(row.get("classes", ()))
    ]
    if rows:
        n_classes = len({row["class"] for row in rows})
        yield Chart("classes", "accuracy by class", CLASSES, classes_of(n_classes <= FEW_CLASSES), rows)


@cache
def classes_of(written: bool) -> dict[str, Any]:
    x = alt.X("class:N", sort=None).title(None).axis(labelAngle=-60)
    y = alt.Y("environment:N", sort=None).title(None)
    color = alt.Color("accuracy:Q", scale=alt.Scale(domain=[0, 100], scheme="blues"), legend=None)
    number = alt.Tooltip("accuracy:Q", format=".1f")
    base = alt.Chart().encode(x=x, y=y, tooltip=["label:N", "environment:N", "class:N", "n_images:Q", number])
    dark = alt.condition("datum.accuracy > 55", alt.value("white"), alt.value(INK))
    layers = [base.mark_rect().encode(color=color)]
    if written:
        text = base.transform_calculate(written="format(datum.accuracy, '.0f') + ' (' + datum.n_images + ')'")
        layers.append(text.mark_text(fontSize=9).encode(text="written:N", color=dark))
    side = alt.Step(46 if written else 11)
    row = alt.Row("label:N", sort=None, header=alt.Header(labelOrient="top", labelAnchor="start", labelAngle=0))
    return dict(panels(layers, side, alt.Step(18), row=row).to_dict())


def curves(result: Mapping[str, Any], looks: Mapping[str, Look]) -> Iterator[Chart]:
    """A chart for each algorithm of a result and its BatchFormer variant, if it has one."""
    for twins in pairs(result):
        names = [row["label"] for row in twins]
        rows = [
            {"names": names, "label": row["label"], "filled": looks[row["algorithm"]].filled, **curve}
            for row in twins
            for curve in row["curves"]
        ]
        if any(len(row["steps"]) > 1 for row in rows):
            yield Chart("curves", " and ".join(names), CURVES, curves_of(), rows, names)


def pairs(result: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The rows with curves; an algorithm and its variant stand together, in the order of the first."""
    run = {row["label"]: row for row in result["rows"] if row["curves"]}
    changed = [(one["base"], one["variant"]) for one in result["comparisons"] if one["modifier"] == "BatchFormer"]
    twins = [pair for pair in changed if set(pair) <= run.keys()]
    alone = [(name,) for name in run if not any(name in pair for pair in twins)]
    groups = sorted([*twins, *alone], key=lambda names: list(run).index(names[0]))
    return [[run[name] for name in names] for names in groups]


@cache
def curves_of() -> dict[str, Any]:
    base = alt.Chart().encode(color=alt.Color("label:N", sort=None, scale=alt.Scale(range=["#8a8a8a", BLUE])))
    trials = base.transform_filter("datum.split == 'test'")
    means = base.transform_filter("datum.curves == datum.trials")  # at the steps that all trials have
    chosen = trials.transform_filter("datum.steps == datum.chosen")
    window = chosen.transform_filter("datum.swad_window")
    windows = window.mark_rule(size=3, yOffset={"expr": "datum.filled ? 0 : -4"})
    x = alt.X("steps:Q").title("step").axis(tickCount=4, grid=False)
    y = alt.Y("accuracy:Q").title("accuracy (%)").scale(zero=False).axis(tickCount=5)
    dash = alt.StrokeDash("split:N").scale(domain=SPLITS, range=[[1, 0], [4, 2]])
    dots = chosen.transform_calculate(fill=f"datum.filled ? '{BLUE}' : 'white'").mark_point(size=18)
    tooltip = ["label:N", "environment:N", "trial_seed:N", "steps:Q", alt.Tooltip("accuracy:Q", format=".1f")]
    layers = [
        windows.encode(x="swad_window[0]:Q", x2="swad_window[1]:Q", y=alt.value(PANEL[1] - 2)),
        trials.mark_line(size=0.4).encode(x=x, y=y, detail="trial_seed:N"),
        means.mark_line(size=1.4).encode(x=x, y="mean(accuracy):Q", strokeDash=dash),
        dots.encode(x=x, y=y, fill=alt.Fill("fill:N", scale=None), tooltip=tooltip),
    ]
    by_environment = panels(layers, *PANEL, facet=alt.Facet("environment:N", sort=None), columns=2)
    line = ["label", "environment"]
    counted = by_environment.transform_joinaggregate(trials="count()", groupby=line)
    flat = counted.transform_flatten(["steps", *SPLITS]).transform_fold(SPLITS, ["split", "accuracy"])
    return dict(flat.transform_joinaggregate(curves="count()", groupby=[*line, "split", "steps"]).to_dict())
