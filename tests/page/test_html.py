"""The page's text: it needs no other file, and no label breaks out of the document in it."""

import math
import re
import sys
from html.parser import HTMLParser

import pytest
from page.documents import NASTY, document, embedded, minimal

from dg_batchformer.charts import FAINT, HUES
from dg_batchformer.selection.blocks import COMPARISON_COLUMNS
from dg_batchformer.selection.formats.html import html, vega_bundle

FETCHING = {"src", "srcset", "href", "action", "data", "poster"}


class Tags(HTMLParser):
    """The start tags of a page, and the text in each of its scripts, as a browser divides them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def own_script(page):
    return Tags(page).scripts[2]


@pytest.mark.parametrize("made", [document(), minimal()], ids=["full", "minimal"])
def test_document_comes_back(made):
    assert embedded(html(made))["document"] == made


def test_it_fetches_nothing():
    page = html(document())
    fetched = [value for _, attrs in Tags(page).tags for name, value in attrs.items() if name in FETCHING]
    assert fetched == ["data:,"]  # no icon
    assert "@import" not in page
    assert not re.search("https?://", page.replace(vega_bundle(), ""))
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]*)"', page)[1]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def test_it_is_small_and_the_same_at_every_run():
    page = html(document())
    assert html(document()) == page
    assert len(page) < 1.5e6


def test_labels_stay_in_the_data():
    page = html(document())
    tags = Tags(page)
    assert [tag for tag, _ in tags.tags].count("script") == 3
    results = embedded(page)["document"]["results"]
    assert {row["label"] for result in results for row in result["rows"]} >= set(NASTY)
    assert not any(label in page for label in NASTY)


def test_charts_of_each_result():
    made = document()
    for result, charts in zip(made["results"], embedded(html(made))["drawn"], strict=True):
        kinds = [] if result["lacking"] else ["accuracies", "forest", *["curves"] * (result["dataset"] != "Avg")]
        assert list(dict.fromkeys(chart["kind"] for chart in charts)) == kinds


def test_differences_are_in_the_words_of_the_other_formats():
    made = document()
    table = embedded(html(made))["differences"][0]
    one = made["results"][0]["comparisons"][0]
    assert table["head"] == ["Variant - base", "A", "C", "P", "S", *COMPARISON_COLUMNS]
    name, *means = table["lines"][0]["cells"]
    assert name == "ERM_BatchFormer - ERM"
    assert means[:4] == [f"{one['environments'][environment]['mean']:+.1f}" for environment in "ACPS"]
    assert means[4:] == one["table"]
    assert (table["lines"][0]["title"], table["lines"][0]["words"]) == (one["title"], one["words"])


def test_without_the_extra_there_are_tables_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    vega_bundle.cache_clear()
    page = html(document())
    assert embedded(page)["drawn"] is None
    assert "window.vegaEmbed" not in page


def test_title_is_escaped():
    page = html(minimal() | {"title": "</title><b>{{script}}"})
    assert "<title>&lt;/title&gt;&lt;b&gt;{{script}}</title>" in page


def test_only_the_template_has_placeholders():
    assert set(re.findall(r"\{\{\w+\}\}", html(minimal()).replace(vega_bundle(), ""))) == set()


def test_what_json_lacks_is_refused():
    """JSON.parse would refuse it on the page, where nobody sees why."""
    with pytest.raises(ValueError, match="JSON compliant"):
        html(minimal() | {"runs": math.nan})


def test_data_is_never_read_as_html():
    script = own_script(html(minimal()))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme):
    """WCAG 2.2, AA: 4.5 for text."""
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", html(minimal()))
    colours = {name: both[scheme] for name, *both in pairs}
    text = [(ink, page) for ink in ("ink", "soft", "accent") for page in ("page", "raised")]
    text += [("warn", "page"), ("warn", "warn-page")]
    assert [pair for pair in text if contrast(*(colours[name] for name in pair)) < 4.5] == []


@pytest.mark.parametrize("hue", [*HUES, FAINT])
def test_contrast_of_charts(hue):
    """3 for what charts are made of; they are on white."""
    assert contrast(hue, "#ffffff") >= 3
