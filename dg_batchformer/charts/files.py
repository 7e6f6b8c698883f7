"""The charts of a report as files, for a paper or a talk."""

import hashlib
import io
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dg_batchformer.charts import INK, Chart, charts
from dg_batchformer.errors import InputError

LONGEST = 120  # characters of a file's name, which encrypted file systems take too
TEST_DATA = "USES TEST DATA: for comparison only, not a result"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws the charts of a document into a folder, each as PNG, SVG and PDF; returns the files.

    Raises InputError where the packages of the extra `plots` are missing.
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
    """A chart's specification with its data, and above it what it shows of which data, and how these were chosen."""
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
    """A PNG without transparency, in a fraction of the bytes."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "PNG", optimize=True)
    return file.getvalue()


def ordered(pdf: bytes) -> bytes:
    """A PDF with sorted references: vl-convert writes them in any order, and equal charts are to be equal bytes."""
    return re.sub(rb"(?m)(?:^ +/\w+ \d+ 0 R\n){2,}", lambda found: b"".join(sorted(found[0].splitlines(True))), pdf)


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The names, beside the dataset, whose values set these settings apart."""
    names = dict.fromkeys(name for setting in settings for name in setting if name != "dataset")
    return [name for name in names if len({setting.get(name) for setting in settings}) > 1]


def stem(parts: Sequence[str], used: set[str]) -> str:
    """A file's name without its ending, which all file systems take and which is not `used`: it is added there."""
    letters = unicodedata.normalize("NFKD", "-".join(parts)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._]+|\.{2,}", "-", letters).strip("-._")
    if len(name) > LONGEST or name.lower() in used:
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9]}-{digest}"
    used.add(name.lower())
    return name
