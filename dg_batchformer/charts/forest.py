"""Paired differences as a forest plot: for each comparison the mean difference, its intervals and its pairs of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from dg_batchformer.charts.style import BLUE, FAINT, INK, Chart, label, labelled, panels, step
from dg_batchformer.selection.formats.wording import p_value
from dg_batchformer.selection.pairs import HYPER_PARAMETER, SIGNIFICANT

CAPTION = (
    "Runs of equal environment, trial and hparams_seed are compared. Diamond: mean; thick: 95 % bootstrap interval; "
    "thin: 95 % Student's t; dots: the pairs. Right: wins/ties/losses of the change, and p of the paired t-test, "
    f"corrected (Holm) for all comparisons of a table; in blue where p < {SIGNIFICANT}."
)
WIDTH = 190


def charts(result: Mapping[str, Any]) -> Iterator[Chart]:
    """The forest plot of a result's comparisons, grouped by modifier; none where no runs are paired."""
    rows = [row for one in result["comparisons"] if one["overall"]["n"] for row in _rows(one)]
    if rows:
        yield Chart("forest", "what was changed", CAPTION, definition(step(rows, least=26)), rows)


def _rows(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for the mean of a comparison, with its intervals, and one for each pair of runs."""
    overall, p = comparison["overall"], comparison["p_holm"]
    # A row that was given more may have several bases; else the modifier above says what the base is without.
    is_given = comparison["modifier"] == HYPER_PARAMETER
    name = f"{comparison['change']}, {comparison['base']}" if is_given else comparison["variant"]
    names = [comparison["variant"], comparison["base"]]
    common = {"names": names, "label": label(name), "modifier": comparison["modifier"], "counts": "", "p": ""}
    yield {
        **common,
        **{name: overall[name] for name in ("mean", "bootstrap", "t")},
        "counts": counts(overall),
        "p": "" if p is None else p_value(p),
        "colour": BLUE if p is not None and p < SIGNIFICANT else FAINT,
    }
    for unit in overall["units"]:
        yield {**common, **unit}


def counts(difference: Mapping[str, Any]) -> str:
    """Wins, ties and losses."""
    return "/".join(str(difference[name]) for name in ("wins", "ties", "losses"))


@cache
def definition(step: int) -> dict[str, Any]:
    """The specification for rows of so many pixels."""
    import altair as alt

    base = alt.Chart().encode(y=labelled(), color=alt.Color("colour:N", scale=None))
    points, axis = "points, with the change less without it", alt.Axis(tickCount=5)
    mean = alt.X("mean:Q", title=points, axis=axis, scale=alt.Scale(padding=4))
    pair = base.mark_point(size=7, filled=True, yOffset=7)
    beside = base.mark_text(align="right")
    told = ["names:N", alt.Tooltip("mean:Q", format="+.1f"), "counts:N", "p:N"]
    told_of_pair = ["environment:N", "trial_seed:N", alt.Tooltip("difference:Q", format="+.1f")]
    layers = [
        alt.Chart().mark_rule(color=INK).encode(x=alt.datum(0)),
        base.mark_rule().encode(x="t[0]:Q", x2="t[1]:Q"),
        base.mark_rule(size=3).encode(x="bootstrap[0]:Q", x2="bootstrap[1]:Q"),
        pair.encode(x=alt.X("difference:Q"), color=alt.value("#9a9a9a"), tooltip=told_of_pair),
        base.mark_point(shape="diamond", size=55, filled=True).encode(x=mean, tooltip=told),
        beside.encode(x=alt.value(WIDTH + 42), text="counts:N"),
        beside.encode(x=alt.value(WIDTH + 82), text="p:N"),
    ]
    row = alt.Row("modifier:N", sort=None, header=alt.Header(labelOrient="top", labelAnchor="start", labelAngle=0))
    return dict(panels(layers, WIDTH, alt.Step(step), row=row).resolve_scale(y="independent").to_dict())
