"""The charts of a report in Vega-Lite, for the page and as files for a paper or a talk."""

import hashlib
import io
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dg_batchformer.errors import InputError
from dg_batchformer.registry import split_name

INK, FAINT, BLUE = "#222222", "#767676", "#0072b2"
HUES = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#b87d00", "#3a9bd1", "#8c6d31")
"""Okabe and Ito's palette for colour-blind readers; its yellows are darker here, since they are too light on paper."""

WORDS = {"labelColor": INK, "labelLimit": 0}
CONFIG: dict[str, Any] = {
    # vl-convert brings this font, so that files are alike on all machines; a browser may have its twin. One weight,
    # since a PDF has several fonts in any order.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "aria": False,  # one description for each chart, not for each mark
    "view": {"stroke": None},
    "axis": {**WORDS, "titleFontWeight": "normal", "titleLimit": 0},
    "axisX": {"labelOverlap": True, "labelSeparation": 6},
    "header": {**WORDS, "labelFontSize": 12, "title": None},
    "legend": {**WORDS, "orient": "top", "title": None, "symbolType": "stroke", "columns": 2},
    "title": {"anchor": "start", "frame": "bounds", "fontWeight": "normal", "subtitleColor": FAINT},
    "point": {"opacity": 1},
}


@dataclass(frozen=True)
class Chart:
    """A chart of a result: a Vega-Lite specification without data, and its data, the rows."""

    kind: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]  # each with the `names` of its algorithms
    labels: Sequence[str] = ()  # of the algorithms that distinguish the chart from others of its kind


class Look(NamedTuple):
    """How an algorithm is drawn: a BatchFormer variant is filled and shares place and colour with its base."""

    place: int
    colour: str
    filled: bool


def charts(document: Mapping[str, Any]) -> list[list[Chart]]:
    """The charts of each result of a document (format json, with curves); a result without numbers has none.

    Raises ImportError if the packages of the extra `plots` are missing.
    """
    from dg_batchformer.charts.specs import classes, curves, points

    looks = looks_of(document)
    return [
        [] if one["lacking"] else [*points(one, looks), *classes(one), *curves(one, looks)]
        for one in document["results"]
    ]


def looks_of(document: Mapping[str, Any]) -> dict[str, Look]:
    """How the algorithms of a document are drawn, the same in all its results."""
    families: dict[tuple[str, ...], int] = {}
    looks = {}
    for algorithm in (row["algorithm"] for result in document["results"] for row in result["rows"]):
        objective, modifiers = split_name(algorithm)
        family = (objective, *(name for name in modifiers if name != "BatchFormer"))
        place = families.setdefault(family, len(families))
        looks[algorithm] = Look(place, HUES[place % len(HUES)], "BatchFormer" in modifiers)
    return looks


def counts(difference: Mapping[str, Any]) -> str:
    """Wins, ties and losses."""
    return "/".join(str(difference[name]) for name in ("wins", "ties", "losses"))


LONGEST = 120  # characters of a file name, which encrypted file systems accept too
TEST_DATA = "USES TEST DATA: for comparison only, not a result"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws the charts of a document into a folder, each as PNG, SVG and PDF; returns the files.

    Raises InputError if the packages of the extra `plots` are missing.
    """
    try:
        import vl_convert

        drawn = charts(document)
    except ImportError as error:
        raise InputError(f"--figures cannot draw ({error}): run pip install 'dg-batchformer[plots]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    shown = [(result, chart) for result, own in zip(document["results"], drawn, strict=True) for chart in own]
    apart = differing([result["setting"] for result, _ in shown])
    used: set[str] = set()
    paths = []
    for result, chart in shown:
        own = [part for name in apart if name in result["setting"] for part in (name, result["setting"][name])]
        name = stem([result["selection"], result["dataset"], *own, chart.kind, *chart.labels], used)
        spec = complete(chart, result)
        for ending, content in (
            ("png", compact(vl_convert.vegalite_to_png(spec, scale=2))),
            ("svg", vl_convert.vegalite_to_svg(spec).encode()),
            ("pdf", ordered(vl_convert.vegalite_to_pdf(spec))),
        ):
            paths.append(folder / f"{name}.{ending}")
            paths[-1].write_bytes(content)
    return paths


def complete(chart: Chart, result: Mapping[str, Any]) -> dict[str, Any]:
    """A chart's specification with its data, and a title with the data, their setting and selection."""
    data = "Averages over environments" if result["dataset"] == "Avg" else result["dataset"]
    texts = [f"Model selection: {result['selection_title']}.", chart.caption, f"Data: {result['caption']}."]
    title = {
        "text": [TEST_DATA] * result["oracle"] + textwrap.wrap(f"{data}: {chart.title}", 62),
        "color": "#b3261e" if result["oracle"] else INK,
        "subtitle": textwrap.wrap(" ".join(texts), 92),
        "subtitleFontSize": 10,
    }
    return {**chart.spec, "title": title, "datasets": {"rows": chart.rows}}


def compact(png: bytes) -> bytes:
    """A PNG without transparency, in fewer bytes."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "PNG", optimize=True)
    return file.getvalue()


def ordered(pdf: bytes) -> bytes:
    """A PDF with sorted references: vl-convert writes them in any order, but equal charts must have equal bytes."""
    return re.sub(rb"(?m)(?:^ +/\w+ \d+ 0 R\n){2,}", lambda found: b"".join(sorted(found[0].splitlines(True))), pdf)


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of the values, beside the dataset, in which these settings differ."""
    names = dict.fromkeys(name for setting in settings for name in setting if name != "dataset")
    return [name for name in names if len({setting.get(name) for setting in settings}) > 1]


def stem(parts: Sequence[str], used: set[str]) -> str:
    """A file name without suffix that all file systems accept and that is not in `used`; adds it there."""
    letters = unicodedata.normalize("NFKD", "-".join(parts)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._]+|\.{2,}", "-", letters).strip("-._")
    if len(name) > LONGEST or name.lower() in used:
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9]}-{digest}"
    used.add(name.lower())
    return name
