"""Learning curves of the chosen runs: an algorithm and its BatchFormer twin, a panel for each environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt

from dg_batchformer.charts import Chart
from dg_batchformer.charts.style import BLUE, Looks, panels

CAPTION = (
    "Runs with the chosen hyper-parameters, one environment left out in each panel. Test: accuracy there; validation: "
    "on the others' out-splits. Thick lines: means over trials; thin: each trial's test; dots: the chosen models; bars "
    "at the foot: what SWAD averaged."
)
SPLITS = ["test", "validation"]
WIDTH, HEIGHT = 165, 95


def curves(result: Mapping[str, Any], looks: Looks) -> Iterator[Chart]:
    """For each algorithm of a result a chart of its learning curves and its twin's."""
    for twins in pairs(result):
        labels = [row["label"] for row in twins]
        if any(len(curve["steps"]) > 1 for row in twins for curve in row["curves"]):
            rows = [one for row in twins for one in _rows(row, labels, looks)]
            yield Chart("curves", " and ".join(labels), CAPTION, curves_of(), rows, labels)


def pairs(result: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """Each algorithm without BatchFormer together with the same one with it; those that have no such twin alone."""
    run = {row["label"]: row for row in result["rows"] if row["curves"]}
    changed = [(one["base"], one["variant"]) for one in result["comparisons"] if one["modifier"] == "BatchFormer"]
    twins = [pair for pair in changed if set(pair) <= run.keys()]
    alone = [(name,) for name in run if not any(name in pair for pair in twins)]
    groups = sorted([*twins, *alone], key=lambda names: list(run).index(names[0]))
    return [[run[name] for name in names] for names in groups]


def _rows(row: Mapping[str, Any], names: Sequence[str], looks: Looks) -> Iterator[dict[str, Any]]:
    """The curve of each trial, by environment."""
    trials = Counter(curve["environment"] for curve in row["curves"])
    fill = "white" if looks[row["algorithm"]].fill == "white" else BLUE
    for curve in row["curves"]:
        yield {"names": names, "label": row["label"], "fill": fill, "trials": trials[curve["environment"]], **curve}


@cache
def curves_of() -> dict[str, Any]:
    """The specification."""
    base = alt.Chart().encode(color=alt.Color("label:N", sort=None, scale=alt.Scale(range=["#8a8a8a", BLUE])))
    trials = base.transform_filter("datum.split == 'test'")
    means = base.transform_filter("datum.curves == datum.trials")  # at the steps that all trials have
    chosen = trials.transform_filter("datum.steps == datum.chosen")
    lane = {"expr": "datum.fill == 'white' ? -4 : 0"}
    windows = chosen.transform_filter("datum.swad_window").mark_rule(size=3, yOffset=lane)
    x = alt.X("steps:Q", title="step", axis=alt.Axis(tickCount=4, grid=False))
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    dash = alt.StrokeDash("split:N", scale=alt.Scale(domain=SPLITS, range=[[1, 0], [4, 2]]))
    told = ["label:N", "environment:N", "trial_seed:N", "steps:Q", alt.Tooltip("accuracy:Q", format=".1f")]
    layers = [
        windows.encode(x="swad_window[0]:Q", x2="swad_window[1]:Q", y=alt.value(HEIGHT - 2)),
        trials.mark_line(size=0.4).encode(x=x, y=y, detail="trial_seed:N"),
        means.mark_line(size=1.4).encode(x=x, y="mean(accuracy):Q", strokeDash=dash),
        chosen.mark_point(size=18).encode(x=x, y=y, fill=alt.Fill("fill:N", scale=None), tooltip=told),
    ]
    by_environment = panels(layers, WIDTH, HEIGHT, facet=alt.Facet("environment:N", sort=None), columns=2)
    flat = by_environment.transform_flatten(["steps", *SPLITS]).transform_fold(SPLITS, ["split", "accuracy"])
    by_step = ["label", "environment", "split", "steps"]
    return dict(flat.transform_joinaggregate(curves="count()", groupby=by_step).to_dict())
