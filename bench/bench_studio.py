"""The studio's page in a browser: plan, drag a box, draw again, with the weights that come with the package.

A try: a prompt of two objects is planned and drawn, one box is dragged elsewhere, and it is drawn again with
the same seed, then with another. Figures: whether the scene reader finds the object at the moved box, what
changed outside of the boxes against another seed, and seconds from pressing a button to what it brings.
BENCH_TRIES sets the number of tries.
"""

from __future__ import annotations

import base64
import io
import os
import statistics
import tempfile
import time
from itertools import permutations
from pathlib import Path

from PIL import Image

from got_core.chain.boxes import Box
from got_core.scenes.reader import read_scene
from got_core.server_settings import ServeSettings, StudioSettings
from got_core.studio.desk import Studio
from got_core.studio.pictures import change_outside
from got_core.studio.run import make_painter
from tests.got_core.studio.page_driver import Artist, browser, shown

TRIES = int(os.environ.get("BENCH_TRIES", "20"))
NAMES = ("red circle", "blue square", "green triangle", "yellow circle", "purple square")
NEEDED, LEVELS = 0.6, 3


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def overlap(picture: Image.Image, name: str, wanted: Box) -> float:
    """IoU of the object's place with the box; 0 where it is not found."""
    found = [one for one in read_scene(picture, strict=False) if f"{one.color} {one.shape}" == name]
    size = picture.size
    clipped = [(*one.box[:2], min(one.box[2], size[0]), min(one.box[3], size[1])) for one in found]
    return max((Box.from_pixels(box, *size).iou(wanted) for box in clipped), default=0.0)


def free_place(box: Box, others: list[Box]) -> tuple[int, int]:
    """The shift to the free place farthest away."""
    best, chosen = -1, (0, 0)
    for x in range(20, 980 - box.width, 40):
        for y in range(20, 980 - box.height, 40):
            placed = Box(x, y, x + box.width, y + box.height)
            far = abs(x - box.x1) + abs(y - box.y1)
            if far > best and all(not placed.iou(other) for other in others):
                best, chosen = far, (x - box.x1, y - box.y1)
    return chosen


def one_try(artist: Artist, number: int) -> dict[str, float]:
    first, second = list(permutations(NAMES, 2))[number % 20]
    artist.page.fill("#seed input", str(number))
    started = time.monotonic()
    artist.plan(f"a photo of a {first} and a {second}")
    planned = time.monotonic() - started
    started = time.monotonic()
    before = opened(artist.draw())
    drawn = time.monotonic() - started
    boxes = [Box(*one) for one in artist.boxes]
    at = artist.names.index(f"a {first}")
    right, down = free_place(boxes[at], [one for k, one in enumerate(boxes) if k != at])
    middle = ((boxes[at].x1 + boxes[at].x2) / 2, (boxes[at].y1 + boxes[at].y2) / 2)
    artist.drag(middle, (middle[0] + right, middle[1] + down))
    moved = Box(*artist.boxes[at])
    artist.wait_text(str(moved))
    after = opened(artist.draw())
    artist.page.fill("#seed input", str(number + 1000))
    other = opened(artist.draw())
    around = [*boxes, moved]
    same, changed = change_outside(before, after, around), change_outside(before, other, around)
    return {
        "iou": overlap(after, first, moved),
        "levels": same.median,
        "mean": same.mean,
        "mean of another seed": changed.mean,
        "below": float(same.mean < changed.mean),
        "plan": planned,
        "picture": drawn,
    }


def _median(tries: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(one[name] for one in tries), 2)


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        chosen = ServeSettings(_env_file=None)
        painter, _ = make_painter(
            None, f"sqlite:///{place}/mlflow.db", StudioSettings(_env_file=None), chosen
        )
        with shown(Studio(painter, Path(place) / "given")) as url, browser() as chromium:
            artist = Artist.at(chromium, url)
            tries = [one_try(artist, number) for number in range(TRIES)]
        painter.close()
    for number, one in enumerate(tries):
        print(number, {name: round(value, 2) for name, value in one.items()})
    return {
        "tries": TRIES,
        f"object at the moved box (IoU >= {NEEDED})": sum(one["iou"] >= NEEDED for one in tries),
        "median change outside, levels": _median(tries, "levels"),
        f"changed by a median of {LEVELS} levels or less": sum(one["levels"] <= LEVELS for one in tries),
        "mean change outside, levels": _median(tries, "mean"),
        "by another seed": _median(tries, "mean of another seed"),
        "less changed than by another seed": sum(one["below"] for one in tries),
        "median seconds to a plan": _median(tries, "plan"),
        "median seconds to a picture": _median(tries, "picture"),
    }


if __name__ == "__main__":
    print(main())
