"""The picture of a cell: where it lies, what its own file says, and what is drawn over it.

Belongs here: finding the file, whether it is what was judged, the sheet with planned and found boxes. Not
here: judging it again. Nothing is opened but what the scores name, or what lies beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from got_core.evaluate.why.cells import Cell, Result
from got_core.evaluate.why.readings import Reading
from got_core.evaluate.why.values import FoundObject
from got_core.filesystems import is_s3, local_path
from got_core.store_faults import StoreUnavailableError

if TYPE_CHECKING:
    from PIL import Image

    from got_core.figures.grids import GridItem
    from got_core.storage import Storage

OpenStorage = Callable[[str], "Storage"]

THERE = "there"
CHANGED = "changed since it was judged"
GONE = "gone"
HIDDEN = "taken down: it is not shown"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_SCORES = "-scores"


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A cell's picture."""

    name: str | None
    url: str | None
    sha256: str | None
    """As judged."""

    state: str
    """THERE, CHANGED, GONE, HIDDEN, or why it cannot be read."""

    record: dict[str, Any] = field(default_factory=dict)
    """What its own file says: `prompt`, `seed`, `chain`, `dropped`, `weights_hash`, `fault`; empty for a
    picture of another program."""

    data: bytes = field(default=b"", repr=False)


def picture_of(cell: Cell, open_storage: OpenStorage, hidden: Iterable[str] = ()) -> PictureFile:
    """The picture of a cell, whatever has become of it. `hidden`: hashes of pictures that were taken down."""
    reading = cell.reading
    if reading.image_sha256 in set(hidden):
        return PictureFile(name=reading.image, url=None, sha256=reading.image_sha256, state=HIDDEN)
    if cell.path is not None:
        return _local(Path(cell.path), reading.image_sha256)
    tried: list[str] = []
    changed: PictureFile | None = None
    for place, name in _candidates(cell, open_storage):
        tried.append(place.url_of(name))
        data = _read(place, name)
        found = _file(name, tried[-1], data, reading.image_sha256) if data else None
        if found and found.state == THERE:
            return found
        changed = changed or found
    url = tried[0] if tried else None
    gone = PictureFile(name=reading.image, url=url, sha256=reading.image_sha256, state=GONE)
    return changed or gone


def _candidates(cell: Cell, open_storage: OpenStorage) -> Iterator[tuple[Storage, str]]:
    """Where the picture may be, and under which names."""
    for place, in_root in _places(cell.result, open_storage) if cell.result else ():
        for name in _names(in_root, cell.reading):
            try:
                place.url_of(name)
            except ValueError:  # leads out of the folder
                continue
            yield place, name


def _local(path: Path, judged: str | None) -> PictureFile:
    """The file that was asked for."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return PictureFile(name=path.name, url=str(path), sha256=judged, state=f"{GONE}: {error.strerror}")
    return _file(path.name, str(path), data, judged)


def _file(name: str, url: str, data: bytes, judged: str | None) -> PictureFile:
    found = hashlib.sha256(data).hexdigest()
    state = THERE if judged in (None, found) else CHANGED
    record = record_of(data)
    return PictureFile(name=name, url=url, sha256=judged or found, state=state, record=record, data=data)


def record_of(data: bytes) -> dict[str, Any]:
    """What a picture's own file says of its drawing; empty for another program's and for damaged ones."""
    from got_core.evaluate.geneval.layout import drawing_record

    return drawing_record(data) or {}


def _read(place: Storage, name: str) -> bytes:
    try:
        return place.read_many([name]).get(name, b"")
    except (OSError, ValueError, StoreUnavailableError):  # no plain name, a folder, no answer
        return b""


def _places(result: Result, open_storage: OpenStorage) -> Iterator[tuple[Storage, bool]]:
    """Where the picture may be, the likeliest place first; and whether names there begin with the folder."""
    drawn = result.scores.get("drawn")
    url = drawn.get("pictures") if isinstance(drawn, dict) else None
    if isinstance(url, str) and (is_s3(url) or local_path(url)):
        yield open_storage(url), False
    if result.root is not None:
        yield result.root, True
        parent = str(PurePosixPath(result.inside or "").parent)
        for folder in reversed(result.root.folders(parent)):  # of published benchmarks beside their results
            if PurePosixPath(folder).name.startswith("pictures"):
                yield open_storage(result.root.url_of(folder)), False
    above = result.folder.url.rpartition("/")[0]
    if above.endswith(_SCORES):  # moved together with its pictures
        yield open_storage(above.removesuffix(_SCORES)), False
    yield result.folder, False


def _names(in_root: bool, reading: Reading) -> Iterator[str]:
    if reading.image is not None:
        yield reading.image
        return
    if in_root:
        return
    for suffix in _SUFFIXES:  # edits are called by their keys
        yield f"{reading.sample_id}{suffix}"
    first, _, rest = reading.sample_id.partition("_")
    if rest:
        yield f"{first}/{reading.sample_id}.png"


# -- the sheet ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a sheet."""

    data: bytes | Image.Image
    caption: str
    boxes: Sequence[tuple[tuple[float, float, float, float], str]] = ()
    correct: bool | None = None
    note: str = ""


def found_outlines(
    found: Sequence[FoundObject], size: tuple[int, int]
) -> list[tuple[tuple[float, float, float, float], str]]:
    """Found boxes as fractions of the picture, in their colours where a sheet knows such."""
    width, height = size
    return [
        (
            (one.box[0] / width, one.box[1] / height, one.box[2] / width, one.box[3] / height),
            _color(one.color),
        )
        for one in found
    ]


def _color(name: str | None) -> str:
    from PIL import ImageColor

    return name if name is not None and name in ImageColor.colormap else "magenta"


def sheet(rows: Sequence[Sequence[Panel]], *, side: int = 256) -> bytes:
    """A PNG with a row of panels for each cell: source, picture with planned boxes, with found boxes, and the
    nearest training pictures. Raises ValueError where there is no picture at all."""
    from got_core.figures.grids import GridItem, picture_grid, png_bytes

    shown = [[item for panel in row if (item := _item(panel))] for row in rows]
    shown = [row for row in shown if row]
    if not shown:
        raise ValueError("there is no picture to draw: all of them are gone, or taken down")
    columns = max(map(len, shown))
    blank = GridItem(_blank(side))
    return png_bytes(
        picture_grid(
            [item for row in shown for item in (*row, *[blank] * (columns - len(row)))],
            columns=columns,
            side=side,
        )
    )


def _item(panel: Panel) -> GridItem | None:
    from got_core.figures.grids import GridItem

    image = image_of(panel.data)
    if image is None:
        return None
    boxes = tuple((_inside(box), color) for box, color in panel.boxes)
    return GridItem(image, panel.caption, boxes, panel.correct, panel.note)


def _inside(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Within the picture, and in order: a foreign table may say anything."""
    x1, y1, x2, y2 = (min(1.0, max(0.0, side)) for side in box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def image_of(data: bytes | Image.Image) -> Image.Image | None:
    """The picture in RGB; None where it cannot be decoded."""
    from got_core.corpus.decode import ImageError, decode_image
    from got_core.evaluate.geneval.layout import Limits

    if not isinstance(data, bytes):
        return data
    try:
        return decode_image(data, Limits(formats=_FORMATS))
    except ImageError:
        return None


def _blank(side: int) -> Image.Image:
    from PIL import Image

    return Image.new("RGB", (side, side), "white")
