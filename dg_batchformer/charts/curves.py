"""Learning curves of the chosen runs: an algorithm and its BatchFormer twin, a panel for each environment."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import altair as alt

from dg_batchformer.charts import BLUE, Chart, Look
from dg_batchformer.charts.points import panels

CAPTION = (
    "Runs with the chosen hyper-parameters, one environment left out in each panel. Test: accuracy there; validation: "
    "on the others' out-splits. Thick lines: means over trials; thin: each trial's test; dots: the chosen models; bars "
    "at the foot: what SWAD averaged."
)
SPLITS = ["test", "validation"]
WIDTH, HEIGHT = 165, 95


def curves(result: Mapping[str, Any], looks: Mapping[str, Look]) -> Iterator[Chart]:
    """A chart for each algorithm of a result without BatchFormer and its twin with it; alone where it has no twin."""
    for twins in pairs(result):
        names = [row["label"] for row in twins]
        rows = [
            {"names": names, "label": row["label"], "filled": looks[row["algorithm"]].filled, **curve}
            for row in twins
            for curve in row["curves"]
        ]
        if any(len(row["steps"]) > 1 for row in rows):
            yield Chart("curves", " and ".join(names), CAPTION, curves_of(), rows, names)


def pairs(result: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The rows with curves: twins together, in the order of the first of them."""
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
    told = ["label:N", "environment:N", "trial_seed:N", "steps:Q", alt.Tooltip("accuracy:Q", format=".1f")]
    layers = [
        windows.encode(x="swad_window[0]:Q", x2="swad_window[1]:Q", y=alt.value(HEIGHT - 2)),
        trials.mark_line(size=0.4).encode(x=x, y=y, detail="trial_seed:N"),
        means.mark_line(size=1.4).encode(x=x, y="mean(accuracy):Q", strokeDash=dash),
        dots.encode(x=x, y=y, fill=alt.Fill("fill:N", scale=None), tooltip=told),
    ]
    by_environment = panels(layers, WIDTH, HEIGHT, facet=alt.Facet("environment:N", sort=None), columns=2)
    line = ["label", "environment"]
    counted = by_environment.transform_joinaggregate(trials="count()", groupby=line)
    flat = counted.transform_flatten(["steps", *SPLITS]).transform_fold(SPLITS, ["split", "accuracy"])
    return dict(flat.transform_joinaggregate(curves="count()", groupby=[*line, "split", "steps"]).to_dict())
