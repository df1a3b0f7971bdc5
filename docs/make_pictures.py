"""Makes the pictures of `docs/images` from a finished `make run`.

    .venv/bin/python docs/make_pictures.py
    .venv/bin/python docs/make_pictures.py --edits
    .venv/bin/python docs/make_pictures.py --page var/storage/benchmark_report.html

The first shows the first benchmark pictures of each task, never chosen ones: the prompt, the boxes that the
model planned, and what it drew. The second shows the first edits of each kind, with their sources. Both read
the storage of the last run (`GOT_*` settings apply) and load no model. The third opens a report in Debian's
chromium, through playwright (`make test` installs it), and takes the first sample whose verdict changed, else
the first one.

Belongs here: pictures for the documentation. Not here: the benchmark's own grid (`got_core.figures.grids`).
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from got_assets.project import Project, load_project
from got_core.chain.grammar import Chain, parse_tolerant
from got_core.evaluate.benchmarks import SCENE_EDITS
from got_core.figures.grids import INK, PAPER, RIGHT, WRONG
from got_core.storage import Storage

IMAGES = Path(__file__).resolve().parent / "images"
TARGET, EDITS, REPORT = (IMAGES / name for name in ("plan-and-picture.png", "edits.png", "report.png"))
MAX_BYTES = 300_000
COLUMNS, EDIT_COLUMNS = 3, 2
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
    source: Image.Image | None = None
    """Of an edit."""


def benchmark_pictures(
    storage: Storage, per_task: int, asset: str = "geneval", sources: Mapping[int, Image.Image] | None = None
) -> list[Shown]:
    """The first pictures of each task, in the benchmark's order; of edits with their `sources`, by index.

    Raises FileNotFoundError if the benchmark has not run into this storage yet.
    """
    if not storage.exists(f"{asset}.json"):
        raise FileNotFoundError(f"{storage.url} holds no benchmark ({asset}.json): do `make run` first")
    samples = storage.read_table(f"{storage.read_json(f'{asset}.json')['prefix']}/samples")
    first = samples.sort("index").group_by("task", maintain_order=True).head(per_task)
    return [
        Shown(
            prompt=row["prompt"],
            chain=parse_tolerant(row["chain"])[0],
            image=Image.open(io.BytesIO(storage.read_bytes(row["image"]))).convert("RGB"),
            failure=row["failure"],
            source=sources[row["index"]] if sources else None,
        )
        for row in first.iter_rows(named=True)
    ]


def edit_pictures(project: Project, per_task: int) -> list[Shown]:
    """The first edits of each kind. Raises as `benchmark_pictures`."""
    suite = SCENE_EDITS.suite(project.recipe.world, project.recipe.evaluate)
    sources = {index: one.source for index, one in suite.requests("").items() if one.source is not None}
    return benchmark_pictures(project.storage, per_task, "scene_edits", sources)


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
    """Source (of an edit), plan and picture side by side, the prompt and the verdict below."""
    panel_font, text_font = ImageFont.load_default(size=11), ImageFont.load_default(size=13)
    panels = [plan_panel(shown.chain, panel_font), enlarged(shown.image)]
    if shown.source is not None:
        panels.insert(0, enlarged(shown.source))
    width = len(panels) * (SIDE + GAP) + GAP
    made = Image.new("RGB", (width, SIDE + 2 * GAP + TEXT_HEIGHT), PAPER)
    for index, panel in enumerate(panels):
        made.paste(panel, (GAP + index * (SIDE + GAP), GAP))
    draw = ImageDraw.Draw(made)
    words = textwrap.shorten(shown.prompt, width // 6, placeholder=" ...")
    draw.text((GAP, SIDE + GAP + 2), words, INK, text_font)
    verdict, color = (shown.failure.replace("_", " "), WRONG) if shown.failure else ("right", RIGHT)
    draw.text((GAP, SIDE + GAP + 17), verdict, color, text_font)
    return made


def enlarged(image: Image.Image) -> Image.Image:
    """As large as a plan's panel."""
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def sheet(pictures: Sequence[Shown]) -> Image.Image:
    """All cells, row by row."""
    cells = [cell(shown) for shown in pictures]
    columns = COLUMNS if pictures[0].source is None else EDIT_COLUMNS
    width, height = cells[0].size
    made = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), PAPER)
    for index, one in enumerate(cells):
        made.paste(one, (index % columns * width, index // columns * height))
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


def picture(asked: argparse.Namespace) -> Image.Image:
    """What the arguments ask for."""
    if asked.page:
        return report_picture(asked.page)
    project = load_project()
    if asked.edits:
        return sheet(edit_pictures(project, asked.per_task))
    return sheet(benchmark_pictures(project.storage, asked.per_task))


def main() -> int:
    """Entry of the script."""
    parser = argparse.ArgumentParser(description="Make a picture of the documentation from a finished run.")
    parser.add_argument("--per-task", type=int, default=2, help="pictures of each task or kind of edit (2)")
    parser.add_argument("--edits", action="store_true", help="edits, with their sources")
    parser.add_argument("--page", type=Path, help="a report to take the picture of instead")
    names = f"{TARGET.name}, of edits {EDITS.name}, of a page {REPORT.name}"
    parser.add_argument("--target", type=Path, help=f"file to write ({names})")
    asked = parser.parse_args()
    try:
        if asked.per_task < 1:
            raise ValueError(f"--per-task must be at least 1, got {asked.per_task}")
        data = small_png(picture(asked))
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    target = asked.target or (REPORT if asked.page else EDITS if asked.edits else TARGET)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    print(f"{target}: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
