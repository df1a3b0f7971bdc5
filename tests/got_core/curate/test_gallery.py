"""The page: complete in itself, escaped, and with boxes where the chain puts them."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.chain.palette import rgb
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES
from got_core.curate.config import CurateConfig
from got_core.curate.gallery import delete_pages, gallery_page, make_cards, shown_ids
from got_core.curate.review import read_verdict_file, review_queue
from got_core.curate.rules import active_rules, all_hits, select_edits, select_t2i
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import Pictures, table

NASTY = "</script><img src=x onerror=alert(1)> 'a' \"b\" & cat"


class Seen(HTMLParser):
    """Tags with their attributes, and all text, as a browser would read them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self) -> list[Image.Image]:
        sources = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode(one.partition("base64,")[2]))) for one in sources]


def t2i_page(*chains: str, prompt: str = "a cat") -> str:
    rows = [
        {
            "chain_id": f"c{k}",
            "image_id": f"image-{k}",
            "prompt": prompt,
            "caption": chain,
            "phrases": [],
            "chain": chain,
        }
        for k, chain in enumerate(chains)
    ]
    images = [
        {
            "image_id": f"image-{k}",
            "path": f"{k}.png",
            "source": "web",
            "licence": NASTY,
            "width": 400,
            "height": 200,
        }
        for k in range(len(chains))
    ]
    table_of, raw = table(rows, T2I_CHAINS), table(images, RAW_IMAGES)
    config = CurateConfig(max_boxes=2, max_chain_chars=120)
    queue = review_queue(select_t2i(table_of, raw, config), table_of, "images-0", 10)
    pictures = Pictures({f"{k}.png": Image.new("RGB", (400, 200), "gray") for k in range(len(chains) - 1)})
    cards = make_cards(queue, raw, pictures, active_rules(config), all_hits(table_of, raw, config))
    return gallery_page(cards, f"Rows {NASTY}", {"rows": len(cards)})


def test_text_is_escaped_and_nothing_is_loaded() -> None:
    page = t2i_page(f"a cat (100,250),(500,750) {NASTY}", "a dog (1,2),(300,400)", prompt=NASTY)
    seen = Seen(page)
    assert page.count("<script") == 1 and "<img src=x" not in page
    assert seen.text.count(NASTY) >= 3
    sources = [str(attrs.get(name)) for _, attrs in seen.tags for name in ("src", "href") if name in attrs]
    assert sources and all(one.startswith("data:image/jpeg;base64,") for one in sources)
    assert not [attrs for _, attrs in seen.tags if any(name.startswith("on") for name in attrs)]
    (policy,) = [attrs["content"] for tag, attrs in seen.tags if tag == "meta" and "content" in attrs]
    assert policy and policy.startswith("default-src 'none'")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    import hashlib

    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy


def test_boxes_are_drawn_in_the_palette_s_colours() -> None:
    seen = Seen(t2i_page("a cat (100,250),(500,750) by a dog (600,100),(900,900)", "a (1,1),(2,2)"))
    (picture,) = seen.pictures()
    assert picture.size == (400, 200)
    for (x, y), name in [((40, 100), "red"), ((199, 100), "red"), ((240, 100), "lime")]:
        near = [picture.getpixel((x + dx, y)) for dx in (-1, 0, 1, 2)]
        distance = min(sum(abs(a - b) for a, b in zip(one, rgb(name), strict=True)) for one in near)  # type: ignore[arg-type]
        assert distance < 150, (name, near)
    assert "border-bottom:3px solid rgb(0,255,0)'>(600,100),(900,900)</b>" in t2i_page(
        "a cat (100,250),(500,750) by a dog (600,100),(900,900)", "x"
    )


def test_every_rule_names_its_reason_and_so_does_a_lost_picture() -> None:
    many = "a (1,2),(300,400) b (1,2),(300,400) c (9,9),(99,99) " + "and so on " * 10
    page = t2i_page(many, "a dog (1,2),(300,400)")
    seen = Seen(page)
    for text in (
        "too_many_boxes: 3 boxes, limit 2",
        "duplicate_boxes: box (1,2),(300,400) more than once",
        "chain_too_long: ",
        "no_box: fine",
        "rejected by too_many_boxes",
        "vanished: 1.png",
        "accepted",
        "web, licence",
    ):
        assert text in seen.text, text
    assert gallery_page([], "empty").count("No rows.") == 1


def test_edits_show_source_and_target_side_by_side() -> None:
    chain = "1. a room 2. a cat 3. (100,100),(500,500) 4. it goes 5. a room"
    row = {
        "chain_id": "e",
        "pair_id": "p",
        "instruction": "remove it",
        "instructions": ["remove it", "no cat"],
    }
    chains = table([row | {"chain": chain}], EDIT_CHAINS)
    pair = {
        "pair_id": "p",
        "source_id": "s",
        "target_id": "t",
        "source_path": "a.png",
        "target_path": "b.png",
    }
    pairs = table([pair], EDIT_PAIRS)
    queue = review_queue(select_edits(chains, pairs, CurateConfig()), chains, "edits-0", 5)
    pictures = Pictures({name: Image.new("RGB", (900, 600), "gray") for name in ("a.png", "b.png")})
    seen = Seen(gallery_page(make_cards(queue, pairs, pictures, chains=chains), "Edits"))
    assert [attrs["alt"] for tag, attrs in seen.tags if tag == "img"] == ["source", "target"]
    assert [one.size for one in seen.pictures()] == [(512, 341)] * 2
    assert "also: no cat" in seen.text
    assert shown_ids(queue, pairs) == ["p", "s", "t"]


def test_pages_that_show_something_removed_are_deleted(storage: Storage) -> None:
    for shard, items in (("edits-0", ["p", "s"]), ("edits-1", ["q"])):
        storage.write_bytes(f"edit_gallery/{shard}.html", b"x")
        storage.write_json(f"edit_gallery/{shard}.json", {"items": items})
    assert delete_pages(storage, ["s", "unknown"]) == ["edit_gallery/edits-0.html"]
    assert storage.list() == ["edit_gallery/edits-1.html", "edit_gallery/edits-1.json"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
@pytest.mark.slow
def test_a_browser_saves_verdicts_that_are_read_back(tmp_path: Path) -> None:
    """The form's own script, in a real browser, through the page's own policy."""
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "page.html").write_text(t2i_page("a cat (100,250),(500,750)", "a dog (1,2),(300,400)"))
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page, messages = browser.new_page(viewport={"width": 1000, "height": 800}), []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.click("#save")
        assert page.inner_text("#said") == "who are you?"
        page.fill("#reviewer", "ada")
        page.click("#save")
        assert page.inner_text("#said") == "nothing is judged yet"
        correction = page.locator("article[data-chain=c0] textarea:not(.before)")
        assert not correction.is_visible()
        page.check("article[data-chain=c0] input[value=correct]")
        assert correction.is_visible()
        correction.fill("a cat (1,2),(500,750)")
        page.check("article[data-chain=c1] input[value=reject]")
        page.fill("article[data-chain=c1] input.note", "no dog")
        assert page.inner_text("#said") == "2 judged, not saved yet"
        with page.expect_download() as download:
            page.click("#save")
        assert (
            download.value.suggested_filename == "verdicts-Rows-script-img-src-x-onerror-alert-1-a-b-cat.json"
        )
        data = Path(download.value.path()).read_bytes()
        assert page.evaluate("document.documentElement.scrollWidth") == 1000, "nothing sticks out"
        shown = page.evaluate("[...document.images].map(one => one.naturalWidth)")
        assert shown == [400], "the policy lets pictures through, and nothing else was there to load"
        assert not messages
        browser.close()
    verdicts = read_verdict_file(data).sort("chain_id")
    assert verdicts["error"].null_count() == 2
    assert verdicts["verdict"].to_list() == ["correct", "reject"]
    assert verdicts["chain"].to_list() == ["a cat (1,2),(500,750)", None]
    assert verdicts["note"].to_list() == [None, "no dog"]
    assert pl.Series(verdicts["before"]).null_count() == 0
