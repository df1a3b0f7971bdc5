"""Makes the pictures of `docs/images` from a finished `make run`.

    .venv/bin/python docs/make_pictures.py
    .venv/bin/python docs/make_pictures.py --page var/storage/benchmark_report.html

The first shows the first benchmark pictures of each task, never chosen ones: the prompt, the boxes that the
model planned, and what it drew. It reads the storage of the last run (`GOT_*` settings apply) and loads no
model. The second opens a report in Debian's chromium, through playwright (`make test` installs it), and takes
the first sample whose verdict changed, else the first one.
Belongs here: pictures for the documentation. Not here: the benchmark's own grid (`got_core.figures.grids`).
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from got_assets.project import load_project
from got_core.chain.grammar import Chain, parse_tolerant
from got_core.figures.grids import INK, PAPER, RIGHT, WRONG
from got_core.storage import Storage

IMAGES = Path(__file__).resolve().parent / "images"
TARGET, REPORT = IMAGES / "plan-and-picture.png", IMAGES / "report.png"
MAX_BYTES = 300_000
COLUMNS = 3
SIDE, GAP, TEXT_HEIGHT = 160, 6, 36
CANVAS, LABEL = (24, 24, 24), (255, 255, 255)
ARTICLE = re.compile(r"^(an?|the) ")


@dataclass(frozen=True)
class Shown:
    """One benchmark picture with what led to it."""

    prompt: str
    chain: Chain
    image: Image.Image
    failure: str | None
    """`planned_wrong`, `drawn_wrong`, or None where the picture is right."""


def benchmark_pictures(storage: Storage, per_task: int) -> list[Shown]:
    """The first pictures of each task, in the benchmark's order.

    Raises FileNotFoundError if no benchmark has run into this storage yet.
    """
    if not storage.exists("geneval.json"):
        raise FileNotFoundError(f"{storage.url} holds no benchmark (geneval.json): do `make run` first")
    samples = storage.read_table(f"{storage.read_json('geneval.json')['prefix']}/samples")
    first = samples.sort("index").group_by("task", maintain_order=True).head(per_task)
    return [
        Shown(
            prompt=row["prompt"],
            chain=parse_tolerant(row["chain"])[0],
            image=Image.open(io.BytesIO(storage.read_bytes(row["image"]))).convert("RGB"),
            failure=row["failure"],
        )
        for row in first.iter_rows(named=True)
    ]


def plan_panel(chain: Chain, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Image.Image:
    """The planned boxes, each outlined in its mask colour, with its phrase inside."""
    panel = Image.new("RGB", (SIDE, SIDE), CANVAS)
    draw = ImageDraw.Draw(panel)
    for placed in chain.boxes:
        x1, y1, x2, y2 = placed.box.to_pixels(SIDE - 1, SIDE - 1)
        draw.rectangle((x1, y1, x2, y2), outline=placed.color, width=2)
        words = "\n".join(textwrap.wrap(ARTICLE.sub("", placed.phrase), 8)[:3])
        place = ((x1 + x2) / 2, (y1 + y2) / 2)
        draw.multiline_text(place, words, LABEL, font, anchor="mm", align="center", spacing=1)
    if not chain.boxes:
        draw.text((SIDE / 2, SIDE / 2), "no box planned", LABEL, font, anchor="mm")
    return panel


def cell(shown: Shown) -> Image.Image:
    """Plan and picture side by side, the prompt and the verdict below."""
    panel_font, text_font = ImageFont.load_default(size=11), ImageFont.load_default(size=13)
    made = Image.new("RGB", (2 * SIDE + 3 * GAP, SIDE + 2 * GAP + TEXT_HEIGHT), PAPER)
    made.paste(plan_panel(shown.chain, panel_font), (GAP, GAP))
    made.paste(shown.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (SIDE + 2 * GAP, GAP))
    draw = ImageDraw.Draw(made)
    draw.text((GAP, SIDE + GAP + 2), textwrap.shorten(shown.prompt, 54, placeholder=" ..."), INK, text_font)
    verdict, color = (shown.failure.replace("_", " "), WRONG) if shown.failure else ("right", RIGHT)
    draw.text((GAP, SIDE + GAP + 17), verdict, color, text_font)
    return made


def sheet(pictures: Sequence[Shown]) -> Image.Image:
    """All cells, row by row."""
    cells = [cell(shown) for shown in pictures]
    width, height = cells[0].size
    made = Image.new("RGB", (COLUMNS * width, -(-len(cells) // COLUMNS) * height), PAPER)
    for index, one in enumerate(cells):
        made.paste(one, (index % COLUMNS * width, index // COLUMNS * height))
    return made


def small_png(image: Image.Image) -> bytes:
    """PNG of at most MAX_BYTES: in full colour if that fits, else in 256 colours.

    Raises ValueError if neither fits.
    """
    for version in (image, image.quantize(256)):
        buffer = io.BytesIO()
        version.save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    raise ValueError(f"the picture is larger than {MAX_BYTES} bytes: show fewer with --per-task")


def report_picture(page: Path, width: int = 1120) -> Image.Image:
    """A sample of a report beside the champion's, as a browser shows it.

    Raises FileNotFoundError without the page or a browser, ValueError for a page without samples.
    """
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium")
    if browser is None or not page.is_file():
        raise FileNotFoundError(f"{page if browser else 'chromium'} is not there")
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport={"width": width, "height": 900})
        tab.goto(page.resolve().as_uri())
        changed = tab.locator(".tile", has=tab.locator(".tag.fixed, .tag.broken"))
        tiles = changed if changed.count() else tab.locator(".tile")
        if not tiles.count():
            raise ValueError(f"{page} shows no sample")
        tiles.first.click()
        data = tab.locator(".viewer").screenshot()
        opened.close()
    return Image.open(io.BytesIO(data)).convert("RGB")


def main() -> int:
    """Entry of the script."""
    parser = argparse.ArgumentParser(description="Make a picture of the documentation from a finished run.")
    parser.add_argument("--per-task", type=int, default=2, help="pictures of each of the six tasks (2)")
    parser.add_argument("--page", type=Path, help="a report to take the picture of instead")
    parser.add_argument("--target", type=Path, help=f"file to write ({TARGET.name}, of a page {REPORT.name})")
    asked = parser.parse_args()
    try:
        if asked.per_task < 1:
            raise ValueError(f"--per-task must be at least 1, got {asked.per_task}")
        data = small_png(
            report_picture(asked.page)
            if asked.page
            else sheet(benchmark_pictures(load_project().storage, asked.per_task))
        )
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    target = asked.target or (REPORT if asked.page else TARGET)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    print(f"{target}: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
