"""The report in headless Chromium. Skipped where none is installed; with CURATE_REQUIRE_BROWSER=1 that is a failure."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pools import WHOLE, configuration, write_pool

import curate
from curate.comparison import Cell, outcome
from curate.comparison import report as compared
from curate.store import write_json

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 120_000
"""Milliseconds, for a machine that does much else."""
TUNED = [
    {"train": {"adapter": {"lora": {"r": 1}}, "batch_rows": 24}},
    {"evaluate": {"held_out": "5%", "baselines": ["random"]}},
]
"""A training that is short, and one to hold it against."""
EVIL = '</script><script>window.pwned=1</script><!--<img src=x onerror="window.pwned=1"><b onclick=pwned()>bold</b>'
LINK = "<a href='javascript:window.pwned=1'>link</a>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium that is installed, driven by Playwright, without a profile."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        told = f"no Chromium is installed (looked for {', '.join(NAMES)})"
        if os.environ.get("CURATE_REQUIRE_BROWSER") == "1":
            pytest.fail(f"CURATE_REQUIRE_BROWSER=1, and {told}. On Debian: apt-get install chromium.")
        pytest.skip(told)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=found, args=FLAGS, timeout=PATIENCE)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(browser: Any, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The report of a run with every kind of stage, over rows that would like to be markup, and a comparison."""
    folder = tmp_path_factory.mktemp("browser")
    pool = write_pool(folder / "data", rows=100)
    with (pool / "chat.jsonl").open("a") as stream:
        for place in range(4):
            answer = f"{EVIL} {LINK} " + "words and more of them " * (30 + place)
            messages = [
                {"role": "user", "content": f"{EVIL} {place}"},
                {"role": "assistant", "content": answer},
            ]
            stream.write(json.dumps({"id": f"{EVIL}{place}", "messages": messages}) + "\n")
    stages = [*WHOLE[:-2], *TUNED]
    config = configuration(pool, stages, tiny_model, agreement_rows=0)
    run = curate.run(config, runs=folder / "runs", runner="local")
    cells = [Cell("<b>best</b>", "method", "m", "48", 0), Cell("random", "baseline", "m", "48", 0)]
    write_json(run.path / "comparison.json", compared([outcome(cell, run, None) for cell in cells]))
    return run.report(folder / "report <i>&.html")


class Opened:
    """A page with the report, and what it asked for and complained of."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_context(offline=True, **options).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on(
            "dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss())
        )
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("html[data-drawn]", state="attached")

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def width(self) -> int:
        """How wide the page is, more than the window where it scrolls sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def background(self) -> str:
        return str(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    def ink(self) -> str:
        """The colour of a chart's words."""
        return str(
            self.page.evaluate("getComputedStyle(document.querySelector('.role-axis-label text')).fill")
        )

    def told(self) -> dict[str, str]:
        """What the pane says of the chosen row."""
        pairs = "[...document.querySelectorAll('#map-details dt')].map(e => [e.textContent, e.nextSibling.textContent])"
        return dict(self.page.evaluate(pairs))

    def point(self) -> tuple[float, float]:
        """The middle of the topmost mark of the map."""
        box = self.page.locator("#map-canvas .mark-symbol.role-mark path").last.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Opened:
    return Opened(browser, report, viewport={"width": 1200, "height": 900}, color_scheme="light")


@pytest.fixture(scope="module")
def texts(report: Path) -> dict[str, str]:
    """id -> response of every row."""
    (path,) = (report.parent / "runs").glob("toy-*")
    return dict(curate.open(path).rows.select("id", "response").collect().iter_rows())


def test_every_chart_is_drawn(opened: Opened) -> None:
    marks = opened.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(box => [box.dataset.chart,"
        "[box.querySelectorAll('svg .role-mark path, svg .role-mark text').length, box.clientWidth, box.clientHeight]]))"
    )
    expected = {"funnel", "scores-score.loss", "correlation", "mixture", "lengths", "schedule", "map-source", "training",
                "losses", "comparison", "cost"}  # fmt: skip
    assert expected <= set(marks)
    assert all(min(figures) > 0 for figures in marks.values()), marks


def test_no_part_is_missing(opened: Opened) -> None:
    assert opened.page.locator("main > section .missing").count() == 0


def test_hover_shows_the_text_of_the_row(opened: Opened, texts: dict[str, str]) -> None:
    opened.page.locator("#map-canvas").scroll_into_view_if_needed()
    opened.page.mouse.move(*opened.point())
    opened.page.wait_for_selector(".tip:not([hidden])")
    shown = opened.page.locator(".tip").inner_text().split("\n")
    told = dict(zip(shown[::2], shown[1::2], strict=False))
    assert " ".join(texts[told["id"]].split()).startswith(told["response"].rstrip("…"))


def test_a_click_keeps_the_row_in_the_pane(opened: Opened, texts: dict[str, str]) -> None:
    opened.page.locator("#map-canvas").scroll_into_view_if_needed()
    opened.page.mouse.click(*opened.point())
    told = opened.told()
    assert " ".join(texts[told["id"]].split()).startswith(told["response"].rstrip("…"))
    assert opened.page.locator("#map-canvas .ring").count() == 1


def test_the_arrow_keys_go_from_row_to_row(opened: Opened) -> None:
    opened.page.locator("#map-canvas").focus()
    seen = []
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowRight"):
        opened.page.keyboard.press(key)
        seen.append(opened.told()["id"])
    assert len(set(seen)) > 2


def test_the_map_is_recoloured_by_keyboard(opened: Opened) -> None:
    opened.page.locator("#map-colour").focus()
    opened.page.keyboard.press("ArrowDown")
    opened.page.locator("#map-canvas", has_text="by cluster").wait_for()
    opened.page.keyboard.press("End")
    opened.page.locator("#map-canvas", has_text="by loss").wait_for()
    assert opened.page.locator("#map-canvas .ring").count() == 1


def test_a_row_that_is_markup_is_shown_as_text(opened: Opened) -> None:
    opened.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    shown = opened.page.locator("#examples ~ details", has_text="<script>window.pwned=1</script>")
    assert shown.count() > 0
    assert "<a href='javascript:window.pwned=1'>link</a>" in shown.first.inner_text()


def test_a_row_that_is_markup_is_text_in_the_map_too(opened: Opened) -> None:
    shown = opened.page.evaluate(
        "(() => { const pane = document.getElementById('map-details');"
        "for (let i = 0; i < 500; i++) { document.getElementById('map-next').click();"
        "if (pane.textContent.includes('pwned')) return [pane.textContent, pane.querySelectorAll('*').length]; } })()"
    )
    told = opened.told()
    assert EVIL in shown[0]
    assert shown[1] == 1 + 2 * len(told)


def test_a_row_that_is_markup_does_nothing(opened: Opened) -> None:
    assert opened.page.evaluate("typeof window.pwned") == "undefined"
    assert opened.page.evaluate("document.querySelectorAll('script').length") == 3
    assert (
        opened.page.evaluate("document.querySelectorAll('main img, main b, main script, main iframe').length")
        == 0
    )
    assert opened.page.evaluate("document.querySelectorAll('a:not([href^=\"#\"])').length") == 0


def test_the_first_link_leads_to_the_content(opened: Opened) -> None:
    assert (
        opened.page.evaluate("document.querySelector('a, button, select, summary, [tabindex]').className")
        == "skip"
    )
    opened.page.locator(".skip").focus()
    assert opened.page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "main"


def test_charts_are_described(opened: Opened) -> None:
    silent = "[...document.querySelectorAll('[data-chart]')].filter(e => !(e.ariaLabel || '').includes(' '))"
    assert opened.page.evaluate(f"{silent}.map(e => e.dataset.chart)") == []


def test_dark_mode_changes_page_and_charts(opened: Opened) -> None:
    light = opened.background(), opened.ink()
    opened.page.emulate_media(color_scheme="dark")
    for _ in range(600):  # no `wait_for_function`: it evaluates text, which the page's policy refuses
        if opened.ink() != light[1]:
            break
        opened.page.wait_for_timeout(200)
    dark = opened.background(), opened.ink()
    assert light[0] == "rgb(255, 255, 255)"
    assert dark == ("rgb(20, 23, 28)", "rgb(230, 233, 238)")


def test_paper_is_light(opened: Opened) -> None:
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.background() == "rgb(255, 255, 255)"
    assert opened.ink() == "rgb(0, 0, 0)"
    opened.page.emulate_media(media="screen", color_scheme="light")


def test_nothing_is_loaded_and_nothing_complained_of(opened: Opened, report: Path) -> None:
    assert opened.requests == [report.as_uri()]
    assert opened.complaints == []


def test_a_phone_does_not_scroll_sideways(browser: Any, report: Path) -> None:
    phone = Opened(browser, report, viewport={"width": 360, "height": 740}, has_touch=True)
    phone.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert phone.width() == 360
    canvas = phone.page.locator("#map-canvas")
    assert canvas.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert phone.complaints == []
