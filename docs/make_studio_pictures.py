"""Makes `docs/images/studio.png` and `docs/images/studio-edit.png`: the studio's page in Debian's chromium.

    .venv/bin/python docs/make_studio_pictures.py

A plan is drawn, a box moved and drawn again; then the picture is edited. With the weights that come with the
package, so a finished run is not needed. Belongs here: these two pictures. Not here: those of runs and
reports (`make_pictures.py`).
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.make_pictures import IMAGES, small_png  # noqa: E402
from got_core.server_settings import ServeSettings, StudioSettings  # noqa: E402
from got_core.studio.desk import EDIT, Studio  # noqa: E402
from got_core.studio.run import make_painter  # noqa: E402
from tests.got_core.studio.page_driver import Artist, browser, shown  # noqa: E402

PROMPT, CHANGE = "a photo of a red circle and a blue square", "Make the blue square yellow."
WIDTH, HEIGHT = 1280, 860


def after_a_move(artist: Artist) -> Image.Image:
    """The page with a box moved, and what came of it beside the picture before."""
    artist.plan(PROMPT)
    artist.draw()
    x1, y1, x2, y2 = artist.boxes[0]
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    artist.drag(middle, (middle[0], 780))
    artist.settle()
    artist.draw()
    artist.wait_said("^Drawn: round 2")
    return screenshot(artist)


def after_an_edit(artist: Artist) -> Image.Image:
    """The page with the region of an edit, and its picture."""
    artist.page.check(f"#mode input[value='{EDIT}']")
    artist.plan(CHANGE)
    artist.draw()
    artist.wait_said("^Drawn: round 3")
    return screenshot(artist)


def screenshot(artist: Artist) -> Image.Image:
    """What the window shows, from its top."""
    artist.page.evaluate("window.scrollTo(0, 0)")
    return Image.open(io.BytesIO(artist.page.screenshot())).convert("RGB")


def main() -> int:
    """Entry of the script."""
    serving, settings = ServeSettings(_env_file=None), StudioSettings(_env_file=None)
    with tempfile.TemporaryDirectory() as place:
        painter, _ = make_painter(None, f"sqlite:///{place}/mlflow.db", settings, serving)
        with shown(Studio(painter, Path(place) / "given")) as url, browser() as chromium:
            artist = Artist.at(chromium, url)
            artist.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
            made = {"studio.png": after_a_move(artist), "studio-edit.png": after_an_edit(artist)}
        painter.close()
    for name, picture in made.items():
        data = small_png(picture)
        (IMAGES / name).write_bytes(data)
        print(f"{IMAGES / name}: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
