"""The galleries: what their data say, and that a real browser shows them by mouse and by keyboard."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from got_core.evaluate.report import Run, Section, benchmark_report
from got_core.evaluate.report.cases import Limits
from got_core.evaluate.report.thumbnails import EXACT, FULL, SIDE, Thumbnail, Thumbnails
from got_core.figures.grids import png_bytes
from got_core.storage import Storage
from tests.got_core.evaluate.report.conftest import STANDING, sections
from tests.got_core.evaluate.report.test_page import Page

NASTY = "</script><!--<script><img src=x onerror=alert(1)> 'a' \"b\" & \u2028cat"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r"<script type='application/json' id='gallery-data'>(.*?)</script>", page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_data_of_champion_and_challenger(two_models: Storage) -> None:
    page = benchmark_report(sections(two_models))
    data = data_of(page)
    geneval, edits = data["sections"]
    assert geneval["models"] == edits["models"] == ["champion, version 3", "challenger"]
    assert {one["name"]: one["change"] for one in geneval["cases"] if one["change"]} == {
        "00004": "fixed",
        "00007": "broken",
    }
    fixed = next(one for one in geneval["cases"] if one["change"] == "fixed")
    champion, challenger = fixed["sides"]
    assert champion["cause"] == "planned wrong" and challenger["verdict"] == "right"
    assert challenger["why"] == "got why geneval/scenes/00004 --model bbbbbbbbbbbb"
    assert champion["why"] == "got why geneval/scenes/00004 --model aaaaaaaaaaaa"
    assert len(challenger["boxes"]) == 2 and challenger["boxes"][0]["color"] == "rgb(255,0,0)"
    assert all(0 <= v <= 1 for one in challenger["found"] for v in one["box"])
    assert len(fixed["diff"]["added"]) == 1 and len(fixed["diff"]["moved"]) == 1
    assert fixed["diff"]["moved"][0]["shift"] == [6, 0]
    assert ["Reason", "expected circle >= 1, found 0"] in champion["texts"]
    picture = data["pictures"][challenger["picture"]].partition("base64,")[2]
    stored = two_models.read_bytes(f"geneval/{'b' * 12}/00004.png")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as shown:
        assert shown.convert("RGB").tobytes() == Image.open(io.BytesIO(stored)).tobytes(), "without loss"
    assert geneval["cases"][0]["source"] is None and edits["cases"][0]["source"]["size"] == [64, 64]
    sources = {one["source"]["picture"] for one in edits["cases"]}
    assert len(sources) == len(edits["cases"]) == 5
    sides = [side for one in edits["cases"] for side in one["sides"]]
    assert all(side["heat"]["size"] == [64, 64] for side in sides), "one for each of the few that there are"
    assert all(side["heat"] is None for one in geneval["cases"] for side in one["sides"])
    assert "exact boxes of the edit</td><td>5 / 5</td>" in page
    Page(page)


def test_without_a_champion_or_its_pictures(two_models: Storage) -> None:
    page = benchmark_report(sections(two_models, champion=None))
    assert "There is no champion yet" in page and data_of(page)["sections"][0]["models"] == ["challenger"]
    gone = STANDING.__class__(version="3", weights_hash="c" * 64, results={})
    page = benchmark_report(sections(two_models, champion=gone))
    assert "are not in this storage" in page and len(data_of(page)["sections"][0]["models"]) == 1


def hostile_section(pictures: dict[str, bytes], rows: int = 1) -> Section:
    frame = pl.DataFrame(
        [
            {
                "sample_id": f"{NASTY}{k}", "task": NASTY, "prompt": NASTY, "correct": False,
                "failure": NASTY,
                "chain": f"{NASTY} (100,100),(500,500)", "reason": NASTY, "reply": NASTY, "image": f"{k}.png",
                "found": json.dumps([{"cls": NASTY, "score": 0.5, "box": [1, 1, 9, 9], "color": None}]),
            }
            for k in range(rows)
        ]
    )  # fmt: skip
    task = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": rows}
    scores = {
        "benchmark": NASTY, "protocol": NASTY, "protocol_digest": "d", "protocol_record": {NASTY: NASTY},
        "overall": 0.0, "low": 0.0, "high": 0.0, "tasks": {NASTY: task}, "complete": True, "found": rows,
        "expected": rows, "notes": [NASTY],
    }  # fmt: skip

    def opener(some: Any) -> dict[int, bytes]:
        return {k: pictures[row["image"]] for k, row in enumerate(some) if row["image"] in pictures}

    other = Run(label=NASTY, scores=scores, samples=frame, pictures=opener)
    return Section(scores, None, frame, label=NASTY, pictures=opener, beside=(other,), notes=(NASTY,))


def test_markup_of_others_stays_text() -> None:
    page = benchmark_report([hostile_section({})], title=NASTY, lineage={NASTY: NASTY})
    seen = Page(page)
    assert page.count("<script") == page.count("</script>") == 2, "the data and the page's own"
    assert "<img" not in page
    (case,) = data_of(page)["sections"][0]["cases"]
    assert case["prompt"] == NASTY and case["sides"][0]["texts"][0] == ["Reason", NASTY]
    assert case["sides"][0]["missing"] == "the picture is not in the storage any more"
    assert " ".join(seen.words).count("onerror") > 5, "titles and tables show it as text"


@pytest.mark.parametrize("figure", [float("inf"), float("nan")])
def test_a_figure_without_end_ends_no_page(figure: float) -> None:
    section = hostile_section({}, rows=2)
    assert section.samples is not None
    frame = section.samples.with_columns(value=pl.Series([figure, 0.5]), correct=pl.lit(None, pl.Boolean))
    section = replace(section, samples=frame, beside=())
    sides = [
        case["sides"][0]["value"] for case in data_of(benchmark_report([section]))["sections"][0]["cases"]
    ]
    assert sorted(sides, key=str) == [0.5, None]


def test_pictures_are_small_and_the_page_has_an_end() -> None:
    noise = Image.effect_noise((900, 600), 90).convert("RGB")
    small = Thumbnails(10_000_000)
    made = small.add(png_bytes(noise))
    assert made == Thumbnail(0, 900, 600) and small.add(png_bytes(noise)) == made and len(small.uris) == 1
    with Image.open(io.BytesIO(base64.b64decode(small.uris[0].partition("base64,")[2]))) as shown:
        assert max(shown.size) == SIDE and shown.format == "WEBP"
    assert small.used == len(small.uris[0])
    full = Thumbnails(100)
    assert full.add(png_bytes(noise)) == FULL and full.used == 0
    assert str(small.add(b"no picture")).startswith("unreadable: ")
    tiny = Image.effect_noise((EXACT, EXACT), 90).convert("RGB")
    exact = Thumbnails(10_000_000)
    exact.add(tiny)
    with Image.open(io.BytesIO(base64.b64decode(exact.uris[0].partition("base64,")[2]))) as shown:
        assert shown.convert("RGB").tobytes() == tiny.tobytes()


def test_a_full_page_says_what_it_leaves_out() -> None:
    pictures = {f"{k}.png": png_bytes(Image.effect_noise((200 + k, 200), 90)) for k in range(9)}
    limits = Limits(failures=4, first=1, changed=1, page_bytes=90_000)
    page = benchmark_report([hostile_section(pictures, rows=9)], limits=limits)
    assert "4 of 9" in page and "pictures are left out: the page is full" in page
    data = data_of(page)
    assert sum(map(len, data["pictures"])) <= 90_000 and len(data["sections"][0]["cases"]) == 4
    sides = [side for one in data["sections"][0]["cases"] for side in one["sides"]]
    assert {side.get("missing") for side in sides} == {None, FULL}


# -- in a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if shutil.which("chromium") is None:
        pytest.skip("needs a browser")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page of a file, with all that the browser had to say."""

    def __init__(self, browser: Any, html: str, folder: Path) -> None:
        (folder / "page.html").write_text(html, encoding="utf-8")
        self.page = browser.new_page(viewport={"width": 1200, "height": 900})
        self.messages: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"file://{folder / 'page.html'}")

    def tiles(self, section: int = 0) -> int:
        return self.page.locator(".gallery").nth(section).locator(".tile").count()

    def where(self) -> str:
        return self.page.inner_text(".viewer .where")

    def close(self) -> None:
        assert not self.messages
        assert [one for one in self.asked if not one.startswith(("data:", "file:"))] == []
        self.page.close()


@pytest.mark.slow
def test_a_browser_filters_clicks_and_keys_through(
    two_models: Storage, chromium: Any, tmp_path: Path
) -> None:
    opened = Opened(chromium, benchmark_report(sections(two_models)), tmp_path)
    page = opened.page
    gallery = page.locator(".gallery").first
    assert opened.tiles() == 18 and opened.tiles(1) == 5
    broken = page.evaluate("[...document.images].filter(one => !one.naturalWidth).length")
    assert broken == 0, "the policy lets the page's own pictures through"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200, "nothing sticks out"

    gallery.get_by_label("Task").select_option("counting")
    assert opened.tiles() == 3 and gallery.locator(".count").inner_text() == "3 of 18 samples"
    gallery.get_by_label("Changed verdict").select_option("fixed")
    assert opened.tiles() == 0
    gallery.get_by_label("Task").select_option("")
    assert opened.tiles() == 1
    gallery.get_by_label("Changed verdict").select_option("")
    gallery.get_by_label("Cause").select_option("planned wrong")
    assert opened.tiles() == 3, "of either model"

    # One at a time, by mouse, then by keyboard, and back to the tile.
    gallery.locator(".tile").nth(1).click()
    assert opened.where() == "2 of 3 · geneval/scenes · two_object · 00004"
    viewer = page.locator(".viewer")
    heads = viewer.locator(".side h4").all_inner_texts()
    assert heads == ["champion, version 3 planned wrong", "challenger right"]
    assert viewer.locator(".side").nth(1).locator("rect").count() == 4, "two planned boxes, two lines each"
    viewer.get_by_label("found boxes").check()
    assert viewer.locator(".side").nth(1).locator("rect[stroke-dasharray]").count() == 2
    viewer.get_by_label("planned boxes").uncheck()
    assert viewer.locator(".side").nth(1).locator("rect").count() == 2
    page.keyboard.press("ArrowRight")
    assert opened.where().startswith("3 of 3") and "broken" in viewer.locator("h3").inner_text()
    page.keyboard.press("ArrowRight")
    assert opened.where().startswith("1 of 3"), "round and round"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert opened.where().startswith("2 of 3")
    viewer.get_by_label("next").click()
    assert opened.where().startswith("3 of 3")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    sample = gallery.locator(".tile").nth(2).get_attribute("data-sample")
    assert page.evaluate("document.activeElement.dataset.sample") == sample
    page.keyboard.press("Enter")
    assert viewer.is_visible() and opened.where().startswith("3 of 3")
    opened.close()


@pytest.mark.slow
def test_a_browser_shows_plans_and_sources_side_by_side(
    two_models: Storage, chromium: Any, tmp_path: Path
) -> None:
    opened = Opened(chromium, benchmark_report(sections(two_models)), tmp_path)
    page = opened.page
    viewer = page.locator(".viewer")
    page.locator(".gallery").first.get_by_label("Changed verdict").select_option("broken")
    page.locator(".gallery").first.locator(".tile").click()
    diff = viewer.locator(".diff")
    assert diff.locator("li .tag").all_inner_texts() == ["removed", "moved", "moved"]
    assert "right +6.0 %" in diff.inner_text() and "IoU 0." in diff.inner_text()
    assert diff.locator("del").count() and diff.locator("ins").count()
    texts = viewer.locator(".side").nth(1).inner_text()
    assert "expected cross >= 3, found 2" in texts and "found: " in texts
    why = viewer.locator(".why input").nth(1)
    assert why.input_value() == "got why geneval/scenes/00007 --model bbbbbbbbbbbb"
    viewer.get_by_role("button", name="copy").nth(1).click()
    viewer.get_by_role("button", name="copied").wait_for()
    assert page.evaluate("getSelection().toString() || document.activeElement.value") == why.input_value()
    page.keyboard.press("Escape")

    page.locator(".gallery").nth(1).get_by_label("Changed verdict").select_option("broken")
    page.locator(".gallery").nth(1).locator(".tile").click()
    columns = viewer.locator(".sides > div h4").all_inner_texts()
    assert columns == ["source", "champion, version 3 right", "challenger drawn wrong"]
    assert viewer.locator(".sides img").count() == 5
    assert (
        viewer.locator("figure figcaption").all_inner_texts()
        == ["changes outside the region of the edit"] * 2
    )
    assert "The plans are the same." in viewer.locator(".diff").inner_text()
    opened.close()


@pytest.mark.slow
def test_a_browser_reads_markup_of_others_as_text(chromium: Any, tmp_path: Path) -> None:
    picture = png_bytes(Image.effect_noise((64, 64), 90))
    html = benchmark_report([hostile_section({"0.png": picture})], title=NASTY)
    opened = Opened(chromium, html, tmp_path)
    page = opened.page
    page.locator(".gallery .tile").click()
    assert "<script><img src=x onerror=alert(1)>" in page.locator(".viewer h3").inner_text()
    assert page.locator("img[src=x]").count() == 0 and page.locator("script").count() == 2
    assert not opened.messages
    # Even what got into the page as HTML could load and run nothing.
    markup = "<img id=in src='https://example.invalid/a' onerror='alert(1)'>"
    with page.expect_event("requestfailed") as failed:
        page.evaluate("(markup) => document.body.insertAdjacentHTML('beforeend', markup)", markup)
    assert failed.value.failure == "csp", "it never left the machine"
    page.wait_for_function("document.getElementById('in').complete")
    assert opened.messages and all("Content Security Policy" in one for one in opened.messages)
    page.close()
