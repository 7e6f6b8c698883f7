"""The page's text: it needs no other file, and no label breaks out of the document in it."""

import json
import math
import re
from html.parser import HTMLParser

import pytest
from page.documents import NASTY, document, minimal

from dg_batchformer.page.html import html

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


def embedded(page):
    return re.search(r'<script type="application/json" id="document">(.*?)</script>', page, re.DOTALL)[1]


@pytest.mark.parametrize("made", [document(), minimal()], ids=["full", "minimal"])
def test_document_comes_back(made):
    assert json.loads(embedded(html(made))) == made


def test_it_fetches_nothing():
    page = html(document())
    addresses = set(re.findall(r"https?://[^\s\"'<>)]*", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place
    fetched = [value for _, attrs in Tags(page).tags for name, value in attrs.items() if name in FETCHING]
    assert fetched == ["data:,"]  # no icon
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_labels_stay_in_the_document():
    made = document()
    tags = Tags(html(made))
    assert [tag for tag, _ in tags.tags].count("script") == 2
    data, script = tags.scripts
    assert "<" not in data
    assert {row["label"] for result in json.loads(data)["results"] for row in result["rows"]} >= set(NASTY)
    assert not any(label in script for label in NASTY)


def test_title_is_escaped():
    page = html(minimal() | {"title": "</title><b>{{script}}"})
    assert "<title>&lt;/title&gt;&lt;b&gt;{{script}}</title>" in page


def test_only_the_template_has_placeholders():
    assert set(re.findall(r"\{\{\w+\}\}", html(minimal()))) == set()


def test_what_json_lacks_is_refused():
    """JSON.parse would refuse it on the page, where nobody sees why."""
    with pytest.raises(ValueError, match="JSON compliant"):
        html(minimal() | {"runs": math.nan})


def test_data_is_never_read_as_html():
    script = Tags(html(minimal())).scripts[1]
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
    """WCAG 2.2, AA: 4.5 for text, 3 for what charts are made of."""
    block = re.findall(r":root \{(.*?)\}", html(minimal()), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    text = [(ink, page) for ink in ("ink", "soft", "accent") for page in ("page", "raised")]
    text += [("warn", "page"), ("warn", "warn-page")]
    marks = [(f"series-{i}", "page") for i in range(8)]
    assert [pair for pair in text if contrast(*(colours[name] for name in pair)) < 4.5] == []
    assert [pair for pair in marks if contrast(*(colours[name] for name in pair)) < 3] == []
