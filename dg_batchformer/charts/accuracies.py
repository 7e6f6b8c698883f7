"""Accuracies as points with their errors: a panel for each environment and one for their average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from dg_batchformer.charts.style import FAINT, Chart, family, is_variant, label, labelled, panels, step

CAPTION = (
    "Accuracy in percent; each panel has its own axis, which does not start at 0. Filled: with BatchFormer; hollow: "
    "without it; squares: published. Whiskers: standard error over trials; without caps: standard deviation, as "
    "published. *: some of the runs are missing."
)


def chart(result: Mapping[str, Any], colours: Mapping[str, str]) -> Chart:
    """The accuracies of a result; algorithms that differ by BatchFormer alone stand together and share a hue."""
    rows = list(_rows(result, colours))
    return Chart("accuracies", "accuracy", CAPTION, definition(step(rows)), rows)


def _rows(result: Mapping[str, Any], colours: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    order = list(colours)
    columns = [name for name in result["columns"] if name == "Avg" or name in result["environments"]]
    for row in sorted(result["rows"], key=lambda row: order.index(family(row["algorithm"]))):
        colour = colours[family(row["algorithm"])]
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
                "colour": colour,
                "fill": colour if is_variant(row["algorithm"]) else "white",
                "published": bool(row["source"]),
                "star": "*" if mean is not None and cell["missing"] else "",
                "none": "no number" if mean is None else "",
            }


@cache
def definition(step: int) -> dict[str, Any]:
    """The specification for rows of so many pixels."""
    import altair as alt

    base = alt.Chart().encode(y=labelled(), color=alt.Color("colour:N", scale=None))
    mean = alt.X("mean:Q", title=None, scale=alt.Scale(zero=False, padding=4), axis=alt.Axis(tickCount=4))
    cap = base.mark_tick(size=7)
    shape = alt.Shape("published:N", scale=alt.Scale(domain=[False, True], range=["circle", "square"]), legend=None)
    told = ["names:N", "panel:N", alt.Tooltip("mean:Q", format=".1f")]
    layers = [
        base.mark_rule().encode(x="ends[0]:Q", x2="ends[1]:Q"),
        cap.encode(x="caps[0]:Q"),
        cap.encode(x="caps[1]:Q"),
        base.mark_point(size=45).encode(x=mean, fill=alt.Fill("fill:N", scale=None), shape=shape, tooltip=told),
        base.mark_text(dx=7, dy=-5, fontSize=13).encode(x=mean, text="star:N"),
        base.mark_text(align="left").encode(x=alt.value(4), text="none:N", color=alt.value(FAINT)),
    ]
    facet = alt.Facet("panel:N", sort=alt.EncodingSortField("place", op="min"))
    return dict(panels(layers, 105, alt.Step(step), facet=facet, columns=3).resolve_scale(x="independent").to_dict())
