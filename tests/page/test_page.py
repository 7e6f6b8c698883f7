"""The page in a browser: what clicks and keys show, and that nothing is fetched."""

import copy
import shutil
from urllib.parse import parse_qs, urlsplit

import pytest
from page.documents import ALGORITHMS, NASTY, TITLES, document, minimal

from dg_batchformer.selection.formats.html import html

WebDriverWait = pytest.importorskip(
    "selenium.webdriver.support.ui", reason="needs selenium (the extra `test`)"
).WebDriverWait
pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MANY = tuple(
    f"{objective}{modifiers}{variant}"
    for objective in ("ERM", "CORAL", "IRM", "VREx", "MMD", "RSC")
    for modifiers in ("", "_MixStyle", "_SWAD", "_MixStyle_SWAD")
    for variant in ("", "_BatchFormer")
)
FULL = document()
FIRST = FULL["results"][0]


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra `test`)")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    chromedriver = shutil.which("chromedriver")
    if not browser or not chromedriver:
        pytest.skip("needs chromium and chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, service.Service(chromedriver))
    yield driver
    driver.quit()


class Page:
    """A page in the browser, by CSS selectors."""

    def __init__(self, driver, folder):
        self.driver = driver
        self.file = folder / "page.html"

    def open(self, made=FULL, view="", width=1280, **media):
        self.emulate(width, **media)
        self.file.write_text(html(made), encoding="utf-8")
        self.driver.get("about:blank")  # a new hash alone would not load the page anew
        self.driver.get(f"{self.file.as_uri()}{view}")
        self.wait("#view > *")
        return self

    def wait(self, selector):
        WebDriverWait(self.driver, 20).until(lambda _: self.all(selector) and self.text("#title"))

    def emulate(self, width, media="screen", scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def charts(self, kind):
        """The charts of a kind, when they are drawn."""
        WebDriverWait(self.driver, 20).until(
            lambda _: all(one.find_elements("css selector", "svg") for one in self.all(f"#{kind} .chart"))
        )
        return self.all(f"#{kind} .chart svg")

    def words(self, kind):
        """What is written in the charts of a kind."""
        return [
            text.text for svg in self.charts(kind) for text in svg.find_elements("css selector", "text") if text.text
        ]

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def settle(self):
        """Waits for events that browsers put off, as toggle and hashchange."""
        self.script("return new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def one(self, selector):
        (element,) = self.all(selector)
        return element

    def text(self, selector):
        return " ".join(self.one(selector).text.split())

    def click(self, selector):
        self.script("arguments[0].scrollIntoView({block: 'center'})", self.one(selector))
        self.one(selector).click()

    def choose(self, text):
        (option,) = [option for option in self.all("#choice option") if option.text == text]
        option.click()

    def algorithms(self):
        return [name.text.replace("\n", "") for name in self.all("#table .algorithm")]

    def cell(self, row, column):
        return f"#table > tbody > tr:nth-child({row}) button[data-column='{column}']"

    def view(self):
        return parse_qs(urlsplit(self.driver.current_url).fragment)


@pytest.fixture
def page(driver, tmp_path):
    driver.get_log("browser")  # what an earlier test left
    page = Page(driver, tmp_path)
    yield page
    assert page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def by_mean(column, sign):
    """Algorithms of the first table by a column, those without a number last."""
    known = [row for row in FIRST["rows"] if row["cells"][column]["mean"] is not None]
    rest = [row for row in FIRST["rows"] if row["cells"][column]["mean"] is None]
    return [row["algorithm"] for row in sorted(known, key=lambda row: sign * row["cells"][column]["mean"]) + rest]


def test_it_opens_with_the_first_fair_table(page):
    page.open(FULL | {"results": FULL["results"][::-1]})  # the oracle's first
    assert page.one("#choice option:checked").text == "Average over PACS, VLCS, protocol domainbed (last checkpoint)"
    assert page.text("#band") == ""
    page.open()
    assert page.text("#made").startswith("480 runs of 2 folders: sweep, older sweep. Made by dg-batchformer 0.2.0")
    assert page.text("#caption") == FIRST["caption"]
    assert page.algorithms() == [row["algorithm"] for row in FIRST["rows"]]


def test_labels_are_text(page):
    page.open()
    assert set(NASTY) <= set(page.algorithms())
    assert page.all("#view script, .algorithm *:not(wbr)") == []


def test_cells(page):
    page.open()
    cells = FIRST["rows"][5]["cells"]
    assert page.text(page.cell(6, "A")) == f"{cells['A']['mean']:.1f} ± {cells['A']['error']:.1f}"
    assert page.text(page.cell(6, "S")).endswith("2 of 3 trials")
    assert page.text(page.cell(5, "S")) == "\u2013 0 of 3 trials"
    for column in FIRST["columns"]:
        bold = page.one(f"#table button[data-column='{column}']:has(strong)")
        label = next(row["label"] for row in FIRST["rows"] if row["cells"][column]["best"])
        assert bold.get_attribute("aria-label").startswith(f"{label}, {column}: ")


def test_published_rows_and_edges_are_marked(page):
    page.open()
    assert page.text("#table tr.published th") == "ERM published: paper, table 6 ± is a standard deviation"
    assert page.text("#table sup") == "1"
    assert page.text("#footnotes") == f"ERM_BatchFormer: {FIRST['rows'][1]['edges'][0]}."


def test_sort_by_clicks(page):
    page.open()
    header = "#table th[data-column='S']"
    given = page.algorithms()
    for direction, wanted in (("descending", by_mean("S", -1)), ("ascending", by_mean("S", 1)), (None, given)):
        page.click(f"{header} button")
        assert page.one(header).get_attribute("aria-sort") == direction
        assert page.algorithms() == wanted
    assert wanted != by_mean("S", 1)


def test_sort_by_keys(page):
    page.open()
    page.one("#table th[data-column='Algorithm'] button").send_keys("\ue007")  # Enter
    assert page.one("#table [aria-sort]").get_attribute("aria-sort") == "ascending"
    assert page.script("return document.activeElement.textContent") == "Algorithm"
    assert [name for name in page.algorithms() if name in ALGORITHMS] == sorted([*ALGORITHMS, "ERM"])
    page.driver.switch_to.active_element.send_keys(" ")
    assert page.one("#table [aria-sort]").get_attribute("aria-sort") == "descending"


def test_arrow_keys_lead_from_number_to_number(page):
    page.open()
    page.one(page.cell(1, "A")).send_keys("\ue015\ue014")  # down, right
    assert page.driver.switch_to.active_element.get_attribute("aria-label").startswith("ERM_BatchFormer, C: ")
    assert len(page.all("#table button.cell[tabindex='0']")) == 1
    page.driver.switch_to.active_element.send_keys("\ue007")
    assert page.text("#details h3") == "ERM_BatchFormer, C"
    page.driver.switch_to.active_element.send_keys("\ue015")  # over the details
    assert page.driver.switch_to.active_element.get_attribute("aria-label").startswith("CORAL, C: ")
    page.one("#details .close").send_keys("\ue00c")  # Escape
    assert page.all("#details") == []
    assert page.driver.switch_to.active_element.get_attribute("aria-label").startswith("ERM_BatchFormer, C: ")


def test_filter(page):
    page.open()
    page.one("#filter").send_keys("BATCH swad")
    assert page.algorithms() == ["SWAD_BatchFormer"]
    assert [word for word in page.words("accuracies") if word in ALGORITHMS] == ["SWAD_BatchFormer"]
    assert page.words("forest").count("SWAD_BatchFormer") == 2
    assert [line.text for line in page.all("#differences-table td:first-child")] == [
        "SWAD_BatchFormer - SWAD",
        "SWAD_BatchFormer - ERM_BatchFormer",
    ]
    assert [item.text for item in page.all("#curves summary")] == ["SWAD and SWAD_BatchFormer"]
    page.one("#filter").send_keys(" nothing")
    assert page.text("#table tbody") == "No algorithm has \u201cBATCH swad nothing\u201d."
    for name in ("accuracies", "forest", "curves"):
        assert not page.one(f"#{name}-section").is_displayed()


def test_selection_and_dataset(page):
    page.open()
    page.choose("VLCS, protocol tllib (training-domain validation)")
    assert page.text("#caption") == FULL["results"][1]["caption"]
    page.choose("VLCS, protocol tllib (last checkpoint)")
    assert page.text("#caption") == next(r for r in FULL["results"] if r["id"] == "r7")["caption"]
    page.choose("Average over PACS, VLCS, protocol domainbed (last checkpoint)")
    assert [head.text for head in page.all("#table thead button")][:3] == ["Algorithm", "PACS", "VLCS"]
    assert not page.one("#curves-section").is_displayed()


def test_oracle_is_fenced_off(page):
    page.open()
    assert not page.one("#band").is_displayed()
    groups = [group.get_attribute("label") for group in page.all("#choice optgroup")]
    assert groups == [*list(TITLES.values())[:3], "oracle: uses test data, not a fair result"]
    page.choose("PACS, protocol domainbed (oracle)")
    assert page.text("#band") == "Uses test data: not a fair result."
    page.click(page.cell(1, "A"))
    assert "test accuracy: not a fair result" in page.text("#details dl")
    page.choose("PACS, protocol domainbed (training-domain validation)")
    assert not page.one("#band").is_displayed()


def test_lacking(page):
    page.open()
    page.choose("PACS, protocol domainbed (leave-one-domain-out cross-validation)")
    assert page.text("#lacking") == "no number: needs pair runs (--pairs)"
    assert [section.get_attribute("id") for section in page.all("main > section") if section.is_displayed()] == [""]
    assert not page.one("#table").is_displayed()


def test_details(page):
    page.open()
    page.click(page.cell(2, "A"))
    cell = FIRST["rows"][1]["cells"]["A"]
    choice = cell["choices"][2]
    assert page.one(page.cell(2, "A")).get_attribute("aria-expanded") == "true"
    facts = page.text("#details dl")
    assert "; ".join(f"{trial}: {value:.1f}" for trial, value in cell["values"].items()) in facts
    assert "60 done of 60 expected" in facts
    assert page.text("#details .grid tbody tr:nth-child(3)") == (
        f"A 2 7 3000 96.1 {choice['accuracy']:.1f} {choice['folder']}"
    )
    blocks = [block.text for block in page.all("#details pre")]
    assert blocks == [*(own["command"] for own in cell["choices"]), cell["command"]]
    page.click(page.cell(2, "A"))
    assert page.all("#details") == []


def test_confusion_matrix_of_a_cell(page):
    made = copy.deepcopy(FULL)
    counts = [[6, 2, 0], [1, 3, 0], [0, 0, 0]]
    made["results"][0]["rows"][1]["confusion"] = {"A": {"classes": ["cat", NASTY[0], "owl"], "counts": counts}}
    page.open(made)
    page.click(page.cell(2, "A"))
    page.settle()
    rows = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in page.all(".confusion tr")]
    assert rows == [
        ["Label", "cat", NASTY[0], "owl", "Accuracy"],
        ["cat", "6", "2", "0", "75.0"],
        [NASTY[0], "1", "3", "0", "75.0"],
        ["owl", "0", "0", "0", "\u2013"],
    ]
    page.click(page.cell(2, "C"))
    assert page.all(".confusion") == []


def test_copy(page):
    page.open()
    page.click(page.cell(2, "A"))
    for i, (works, said) in enumerate([("true", "Copied"), ("false", "Selected: copy it now")]):
        page.script(f"document.execCommand = (name) => {works}")
        page.all("#details .copy")[i].click()
        assert page.all("#details .copy")[i].text == said
        assert page.script("return String(getSelection())") == page.all("#details pre")[i].text


def test_accuracies(page):
    page.open()
    words = page.words("accuracies")
    assert [word for word in words if word in ("A", "C", "P", "S", "Average")] == ["A", "C", "P", "S", "Average"]
    assert set(ALGORITHMS) - {"MixStyle"} <= set(words)
    assert words.count("no number") == 2  # SWAD, where runs are missing
    assert "does not start at 0" in page.text("#accuracies-caption")


def test_differences(page):
    page.open()
    words = page.words("forest")
    assert {"BatchFormer", "SWAD", "ERM_BatchFormer", "CORAL_BatchFormer", "0.410"} <= set(words)


def test_the_verdicts_come_first(page):
    page.open()
    for line, one in zip(page.all("main > #verdicts:first-of-type li"), FIRST["comparisons"], strict=True):
        assert line.text == f"{one['title']}: {one['words']}"


def test_curves_are_drawn_when_opened(page):
    page.open()
    titles = [title.text for title in page.all("#curves summary")]
    assert titles[:4] == [
        *(f"{name} and {name}_BatchFormer" for name in ("ERM", "CORAL", "SWAD")),
        'MixStyle {"lr": 0.001}',
    ]
    assert len(page.charts("curves")) == 1
    page.click("#curves details:nth-child(3) summary")
    page.settle()
    assert len(page.charts("curves")) == 2
    assert {"A", "C", "P", "S", "SWAD", "SWAD_BatchFormer", "test", "validation"} <= set(page.words("curves"))


def test_a_long_tail_shows_its_classes(page):
    made = copy.deepcopy(FULL)
    for row in made["results"][0]["rows"]:
        row["classes"] = [
            {"environment": name, "class": kind, "n_images": 15, "accuracy": 40.0}
            for name in "AC"
            for kind in ("dog", "yak")
        ]
    page.open(made)
    assert {"A", "C", "dog", "yak", "40 (15)"} <= set(page.words("classes"))
    page.open()
    assert not page.one("#classes-section").is_displayed()


@pytest.mark.parametrize("width", [400, 1200])
def test_no_label_of_a_chart_is_cut(page, width):
    page.open(width=width)
    for kind in ("accuracies", "forest", "curves"):
        for svg in page.charts(kind):
            cut = page.script(
                "const box = arguments[0].getBoundingClientRect();"
                "return [...arguments[0].querySelectorAll('text')].filter((text) => {"
                " const own = text.getBoundingClientRect();"
                " return own.left < box.left - 1 || own.right > box.right + 1 || text.textContent.includes('\u2026');"
                "}).map((text) => text.textContent)",
                svg,
            )
            assert cut == []


def test_hash_restores_the_view(page):
    page.open()
    page.choose("PACS, protocol domainbed (last checkpoint)")
    page.one("#filter").send_keys("batch")
    page.click("#table th[data-column='C'] button")
    page.click("#table button[aria-label^='SWAD_BatchFormer, P:']")
    wanted = page.view()
    shown = [page.text(f"#{name}") for name in ("caption", "table", "differences-table")]
    page.driver.refresh()
    page.wait("#table tbody tr")
    assert [page.text(f"#{name}") for name in ("caption", "table", "differences-table")] == shown
    assert page.view() == wanted
    assert page.text("#details h3") == "SWAD_BatchFormer, P"
    page.script("location.hash = '#filter=coral'")
    page.settle()
    assert page.algorithms() == ["CORAL", "CORAL_BatchFormer"]


def test_a_hash_that_fits_nothing_is_no_harm(page):
    page.open(view="#table=r99&sort=sideways+X&row=None&column=A&other=1")
    assert len(page.algorithms()) == len(FIRST["rows"])


def test_notes_and_problems_are_listed_when_opened(page):
    page.open()
    page.click("#notes > summary")
    assert page.text("#legend") == " ".join(FULL["legend"])
    assert page.text("#apart") == FULL["apart"][0]
    first = "#problems details:first-child"
    assert page.text(f"{first} summary") == "unfinished runs (2)"
    assert page.all("#problems li") == []
    page.click(f"{first} summary")
    page.settle()
    assert [item.text for item in page.all("#problems li")] == ["sweep/0a1b: no done", f"sweep/{NASTY[0]}"]


@pytest.mark.parametrize(("width", "media"), [(400, "screen"), (720, "print")])
def test_nothing_is_wider_than_the_page(page, width, media):
    page.open(view="#row=SWAD_BatchFormer&column=Avg", width=width, media=media)
    page.script("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.script("return document.documentElement.scrollWidth") <= width
    outside = page.script(
        "return [...document.querySelectorAll('body *')].filter((element) => !element.closest('.scroll, svg')"
        " && element.getBoundingClientRect().right > innerWidth + 1).map((element) => element.outerHTML.slice(0, 80))"
    )
    assert outside == []
    assert page.one("#controls").is_displayed() == (media == "screen")


def test_light_and_dark(page):
    colours = [
        page.open(scheme=scheme).script("return getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(253, 253, 252)", "rgb(22, 24, 27)"]


def test_one_number(page):
    page.open(minimal())
    assert page.algorithms() == ["ERM"]
    assert [section.get_attribute("id") for section in page.all("main > section") if section.is_displayed()] == [
        "",
        "accuracies-section",
    ]
    for name in ("#notes", "#no-charts"):
        assert not page.one(name).is_displayed()


def test_no_table(page):
    page.open(minimal() | {"results": []})
    assert page.text("#view") == "No table: no run is done."


def test_leaderboard_sorts_by_rank(page):
    made = document(("ERM", "CORAL", "SWAD"))
    for row, rank in zip(made["results"][0]["rows"], (3, 1, 2, None), strict=True):
        row["rank"] = rank
    page.open(made)
    page.click("#table th[data-column='Rank'] button")
    assert page.algorithms() == ["CORAL", "SWAD", "ERM", "ERM"]


def test_much_is_built_when_asked_for(page):
    page.open(document(MANY))
    assert len(page.algorithms()) == len(MANY) + 1
    assert page.all("#details, #problems li") == []
    assert len(page.charts("curves")) == 1
    page.click(page.cell(9, "Avg"))
    assert len(page.all("#details .grid tbody tr")) == 12
