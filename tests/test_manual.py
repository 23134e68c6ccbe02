"""The manual: one command builds it, its pages need no network, every link leads somewhere, the search finds."""

import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest

from browser import ELEMENT, Browser, missing
from conftest import skip

ROOT = Path(__file__).parents[1]
HTML = ROOT / "docs" / "_build" / "html"
MUSEUM = json.loads((ROOT / "benchmarks" / "results" / "museum.json").read_text())
COMMAND = "sphinx-build -W -b html docs docs/_build/html"


@pytest.fixture(scope="module")
def html():
    """The manual, built by its command: minutes at first, seconds where it stands already."""
    wanted = [name for name in ("sphinx", "furo", "myst_nb", "jupytext") if importlib.util.find_spec(name) is None]
    if wanted:
        skip(f"{', '.join(wanted)} not installed: pip install -e '.[docs]'")
    done = subprocess.run([sys.executable, "-m", "sphinx", *COMMAND.split()[1:]], cwd=ROOT, capture_output=True,
                          text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return HTML


@pytest.fixture(scope="module")
def browser(html):
    if missing():
        skip(missing())
    browser = Browser()
    browser.chrome("Network.enable")
    browser.chrome("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0,
                   uploadThroughput=0)
    yield browser
    browser.close()


@pytest.fixture
def by_hand(html, browser):
    browser.open(html / "by_hand.html")
    return browser


class Page(HTMLParser):
    """Where a page's links lead, what it loads, and the ids that one can link to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.ids = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids |= {attributes[key] for key in ("id", "name") if key in attributes}
        if tag == "a" and "href" in attributes:
            self.links.add(attributes["href"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.add(attributes["href"])
        if tag in ("script", "img", "iframe") and "src" in attributes:
            self.loads.add(attributes["src"])


@pytest.fixture(scope="module")
def pages(html):
    return {path: Page(path) for path in sorted(html.rglob("*.html")) if "_static" not in path.parts}


def set_slider(browser, value):
    browser.run("const e = document.getElementById('eps'); e.value = arguments[0];"
                "e.dispatchEvent(new Event('input'))", value)


def table(browser):
    """The numbers of the page of one pass, by what stands before them."""
    cells = browser.run("return [...document.querySelectorAll('.two td')].map((cell) => cell.textContent)")
    return {name: [float(number) for number in re.findall(r"-?[\d.]+", value)]
            for name, value in zip(cells[::2], cells[1::2])}


# --- what is there ---


def test_the_readme_names_the_command():
    assert COMMAND in (ROOT / "README.md").read_text()


def test_the_lesson_is_in_the_readmes_order():
    listed = re.findall(r"^made/lesson/(\w+)$", (ROOT / "docs" / "lesson.md").read_text(), re.M)
    wanted = re.findall(r"^\| \w+ \| \[minivae/(\w+)\.py\]", (ROOT / "README.md").read_text(), re.M)
    assert listed == wanted and listed[0] == "first"


def test_the_museums_record_is_of_the_museum_of_today():
    """tests/test_museum.py holds what catches each fault to the same record."""
    from minivae.gradcheck.museum import FAULTS

    assert [row["fault"] for row in MUSEUM] == [fault.name for fault in FAULTS]
    for row, fault in zip(MUSEUM, FAULTS):
        assert (row["mechanism"], row["where"], row["symptom"]) == fault[1:3] + fault[5:6], fault.name


def test_every_page_of_the_lesson_shows_every_line_of_its_file(html):
    for name in re.findall(r"^made/lesson/(\w+)$", (ROOT / "docs" / "lesson.md").read_text(), re.M):
        source = (ROOT / "minivae" / f"{name}.py").read_text().splitlines()
        ranges = re.findall(r":lines: (\d+)-(\d+)", (ROOT / "docs" / "made" / "lesson" / f"{name}.rst").read_text())
        shown = [line for first, last in ranges for line in range(int(first), int(last) + 1)]
        assert shown == sorted(set(shown)), name
        left_out = [source[i - 1] for i in range(1, len(source) + 1) if i not in shown and source[i - 1].strip()]
        # only docstrings: they stand beside the code
        code = "\n".join(source)
        docstrings = "\n".join(re.findall(r'^ *""".*?"""$', code, re.M | re.S)).splitlines()
        assert left_out == [line for line in docstrings if line.strip()], name


# --- every page ---


def test_every_link_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links | page.loads:
            target, anchor = urldefrag(link)
            if urlparse(target).scheme in ("http", "https", "data"):
                continue
            file = (path.parent / unquote(urlparse(target).path)).resolve() if target else path
            if not file.is_file():
                broken.append((path.name, link))
            elif anchor and file in pages and file.name != "explain.html" and unquote(anchor) not in pages[file].ids:
                broken.append((path.name, link))
    assert not broken and len(pages) > 40


def test_no_page_loads_anything_from_elsewhere(pages):
    assert [(path.name, one) for path, page in pages.items() for one in page.loads if "://" in one] == []


def test_every_page_opens_with_the_network_off_and_without_a_complaint(html, browser, pages):
    for path in pages:
        browser.open(path)
        asked = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert [one for one in asked if not one.startswith(("file:", "data:", "blob:"))] == [], path
        assert browser.complaints() == [], path
        assert browser.run("return document.title"), path
        broken = "return [...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src)"
        assert browser.run(broken) == [], path


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_page_is_wider_than_its_window(html, browser, pages, width):
    browser.resize(width, 900)
    for path in pages:
        browser.open(path)
        assert browser.run("return document.documentElement.scrollWidth") <= width, path
    browser.resize(1300, 900)


@pytest.mark.parametrize("words, page", [("reparameterisation", "words"), ("sample_backward", "latents"),
                                         ("elbo-beta-ignored", "museum")])
def test_the_search_finds(html, browser, words, page):
    browser.call("POST", "/url", {"url": f"{(html / 'search.html').as_uri()}?q={words}"})
    for _ in range(100):
        found = browser.run("return [...document.querySelectorAll('#search-results li a')].map((one) => one.href)")
        if found and "finished" in browser.text("#search-results"):
            break
        browser.run("const end = Date.now() + 50; while (Date.now() < end);")
    assert any(page in link for link in found), found
    assert browser.complaints() == []


# --- single pages ---


def test_the_first_page_shows_three_doors_and_the_live_page(html, browser):
    browser.resize(1440, 900)
    browser.open(html / "index.html")
    doors = browser.run("return [...document.querySelectorAll('.door')].map((one) => "
                        "[one.querySelector('strong').textContent, one.getBoundingClientRect().bottom])")
    assert [name for name, _ in doors] == ["Read", "Run", "Doubt"] and max(bottom for _, bottom in doors) < 600
    frame = browser.run("return document.querySelector('iframe.live').getBoundingClientRect()")
    assert frame["top"] < 700 and frame["width"] > 1000
    browser.call("POST", "/frame", {"id": {ELEMENT: browser.find("iframe.live")}})
    assert browser.run("return document.querySelector('svg') !== null")      # the graph
    browser.call("POST", "/frame", {"id": None})


def test_the_gallery_has_a_card_for_every_demo(html, browser):
    browser.open(html / "questions.html")
    cards = browser.run("return [...document.querySelectorAll('.card')].map((one) => "
                        "[one.querySelector('a').href, one.querySelector('img, pre') !== null &&"
                        " one.querySelector('a').getBoundingClientRect().bottom < one.getBoundingClientRect().bottom])")
    demos = sorted(path.stem for path in (ROOT / "demos").glob("[0-9]*.py"))
    assert [Path(urlparse(link).path).stem for link, _ in cards] == demos
    assert all(has_picture_and_title for _, has_picture_and_title in cards)


def test_the_museum_shows_every_fault_and_its_filter_hides(html, browser):
    browser.open(html / "made" / "museum.html")
    visible = ("return [...document.querySelectorAll('section section section')].filter((one) => one.offsetParent)"
               ".map((one) => one.querySelector('h3').firstChild.textContent)")
    assert sorted(browser.run(visible)) == sorted(row["fault"] for row in MUSEUM)
    browser.type("#filter", "half forgotten")
    left = browser.run(visible)
    assert "sample-half-forgotten" in left and 0 < len(left) < len(MUSEUM) / 4
    assert browser.run("return document.getElementById('filtered').value") == f"{len(left)} of {len(MUSEUM)}"


def test_one_pass_by_hand_is_the_tested_one(by_hand):
    """The table of tests/README.md at eps = -1/4."""
    shown, text = table(by_hand), (ROOT / "tests" / "README.md").read_text()
    for number in ("1.0064089", "1.3068528", "2.3132617", "-0.2689414", "-0.1344707", "-0.5378828", "1.8844707",
                   "0.3844707", "-1.5378828"):
        assert number in text and float(number) in [value for values in shown.values() for value in values], number


@pytest.mark.parametrize("eps", [-2.5, -0.7, 0, 0.35, 2.5])
def test_the_sliders_gradients_are_those_of_differences(by_hand, eps):
    """d loss/d mu and d loss/d logvar of the same model, by central differences in Python."""
    from math import exp, log, log1p

    def loss(mu, logvar):
        z = mu + exp(logvar / 2) * eps
        recon = log1p(exp(2 * z)) - 2 * z + log1p(exp(1 - 2 * z))
        return recon + (mu**2 + exp(logvar) - 1 - logvar) / 2

    set_slider(by_hand, eps)
    shown, mu, logvar, h = table(by_hand), 1, 2 * log(2), 1e-5
    assert shown["loss = recon + kl, nats"] == pytest.approx([loss(mu, logvar)], abs=1e-7)
    dmu = (loss(mu + h, logvar) - loss(mu - h, logvar)) / (2 * h)
    dlogvar = (loss(mu, logvar + h) - loss(mu, logvar - h)) / (2 * h)
    # seven digits are shown, and the differences are good to h^2 = 1e-10 and rounding / h = 1e-10
    assert shown["the KL joins: dmu + mu"] == pytest.approx([dmu], abs=1e-7)
    assert shown["the KL joins: dlogvar + (e^logvar - 1) / 2"] == pytest.approx([dlogvar], abs=1e-7)
