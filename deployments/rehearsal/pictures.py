"""The photographs and edit pairs of a rehearsal: made from those that come with scikit-image, on the spot.

Belongs here: raw inputs of every kind that the graph reads, good ones and faulty ones, and how many of each
there are. Not here: what is said about them (``server``).
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl
from PIL import Image, ImageDraw, ImageOps

SOURCES = ("lahr", "journeydb", "flux")
"""Names of the inputs, as the published mixture has them: a folder, tars and a parquet table."""
SIDE = 512
"""Shorter side of a good picture, in pixels."""
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
WINDOWS = (
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 0.0, 0.6, 0.9),
    (0.35, 0.2, 1.0, 0.75),
    (0.1, 0.3, 0.55, 1.0),
    (0.45, 0.0, 1.0, 0.55),
)
"""What is cut out of a photograph: left, top, right, bottom as shares of its sides."""
ASPECTS = (1.0, 1.5, 0.66, 1.25, 1.8)
"""Width by height of what is cut out, one for each window."""
PASTED = 3
"""Of so many pictures, one has something pasted on it."""
PAIRS = 24
"""Good edit pairs: three of each of eight kinds."""
COLOURS = {
    "red": (226, 24, 24),
    "green": (24, 178, 60),
    "blue": (28, 56, 226),
    "yellow": (242, 222, 30),
    "purple": (160, 30, 190),
}
Shape = tuple[str, str, tuple[float, float]]
"""Colour and form (``disc`` or ``square``) of what is pasted, and its centre as shares of the sides."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What was written, and what should become of it."""

    raw: Path
    """List of the inputs (GOT_RAW)."""
    edits: Path
    """Table of the edit pairs (GOT_EDITS)."""
    mixture: Path
    """Shares of the sources by stage (GOT_MIXTURE)."""
    good: dict[str, int]
    """Different pictures by source that ingestion should take; near copies are among them."""
    quarantined: int
    """Pictures that it should not take."""
    good_pairs: int
    quarantined_pairs: int
    near_copies: int
    refused: int
    """Good pictures that the annotator refuses to describe."""
    empty: int
    """Good pictures in which it sees nothing."""
    trained: dict[str, int]
    """By source, what is left to train on."""


def write_inputs(folder: Path) -> Inputs:
    """Write all inputs below a folder.

    Raises ModuleNotFoundError, which says what to install, where scikit-image is not there.
    """
    pictures = list(_photographs())
    by_source = {name: pictures[place :: len(SOURCES)] for place, name in enumerate(SOURCES)}
    plain, dark = _opened("page.png"), _opened("moon.png")
    page = ImageOps.fit(plain, (640, SIDE), Image.Resampling.LANCZOS)
    _write_folder(folder / "lahr", [*by_source["lahr"], page])
    _write_tar(folder / "journeydb" / "00000.tar", by_source["journeydb"])
    moon = ImageOps.fit(dark, (SIDE, SIDE), Image.Resampling.LANCZOS)
    _write_parquet(folder / "flux" / "00000.parquet", [*by_source["flux"], moon])
    raw = folder / "inputs.toml"
    raw.write_text(
        '[lahr]\nraw = "lahr"\nlicence = "CC0-1.0"\n\n'
        '[journeydb]\nraw = "journeydb/*.tar"\nlicence = "CC0-1.0"\n\n'
        '[flux]\nraw = "flux/*.parquet"\nlicence = "CC0-1.0"\n'
    )
    pairs = _write_pairs(folder / "edits", pictures)
    trained = {name: len(found) for name, found in by_source.items()}
    # Beside them a page that is refused, a near copy, and the moon, in which nothing is seen.
    good = {**trained, "lahr": trained["lahr"] + 2, "flux": trained["flux"] + 1}
    return Inputs(
        raw=raw,
        edits=folder / "edits" / "pairs.csv",
        mixture=_write_mixture(folder / "mixture.toml"),
        good=good,
        quarantined=2,
        good_pairs=pairs,
        quarantined_pairs=3,
        near_copies=1,
        refused=1,
        empty=1,
        trained=trained,
    )


def _write_mixture(path: Path) -> Path:
    """Two sources and edits for pretraining, the third and both kinds of edits for finetuning."""
    first, second, third = SOURCES
    path.write_text(
        f'[pretrain]\n"t2i/{first}" = 0.4\n"t2i/{second}" = 0.4\n"single-turn" = 0.2\n\n'
        f'[finetune]\n"t2i/{third}" = 0.4\n"single-turn" = 0.4\n"multi-turn" = 0.2\n'
    )
    return path


# -- photographs --------------------------------------------------------------------------------------


def _opened(name: str) -> Image.Image:
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "the rehearsal's photographs come with scikit-image: `make rehearsal` installs it, or "
            "`pip install scikit-image`"
        )
    return Image.open(Path(found.submodule_search_locations[0]) / "data" / name).convert("RGB")


def _photographs() -> Iterator[Image.Image]:
    """Cuttings of several shapes, the shorter side SIDE pixels; one of PASTED with something on it."""
    count = 0
    for window, aspect in zip(WINDOWS, ASPECTS, strict=True):
        for name in PHOTOGRAPHS:
            picture = _cut(_opened(name), window, aspect)
            yield picture if count % PASTED else _pasted(picture, [_shape(count)])
            count += 1


def _cut(photograph: Image.Image, window: Sequence[float], aspect: float) -> Image.Image:
    width, height = photograph.size
    left, top, right, bottom = window
    part = photograph.crop(
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
    )
    size = (round(SIDE * max(1.0, aspect)), round(SIDE * max(1.0, 1 / aspect)))
    return ImageOps.fit(part, size, Image.Resampling.BICUBIC)


def _shape(number: int) -> Shape:
    place = (0.25 + 0.5 * (number * 7 % 11) / 10, 0.25 + 0.5 * (number * 5 % 13) / 12)
    return tuple(COLOURS)[number % len(COLOURS)], ("disc", "square")[number // 3 % 2], place


def _pasted(picture: Image.Image, shapes: Sequence[Shape]) -> Image.Image:
    """The picture with flat shapes on it, each a quarter of the shorter side wide."""
    result = picture.copy()
    draw = ImageDraw.Draw(result)
    half = min(result.size) // 8
    for colour, form, (across, down) in shapes:
        x, y = round(across * result.width), round(down * result.height)
        paint = draw.ellipse if form == "disc" else draw.rectangle
        paint((x - half, y - half, x + half, y + half), fill=COLOURS[colour])
    return result


def _jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _write_folder(folder: Path, pictures: Sequence[Image.Image]) -> None:
    """Good pictures, a copy and a near copy of the first, a broken file, one that is too small, and a file
    that is no picture."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        (folder / f"{number:03}.jpg").write_bytes(_jpeg(picture))
    first = pictures[0]
    (folder / "copy.jpg").write_bytes(_jpeg(first))
    (folder / "near.jpg").write_bytes(_jpeg(first, quality=70))
    (folder / "broken.jpg").write_bytes(_jpeg(first)[:5000])
    (folder / "small.jpg").write_bytes(_jpeg(first.resize((200, 200))))
    (folder / "about.txt").write_text("Photographs that come with scikit-image.\n")


def _write_tar(path: Path, pictures: Sequence[Image.Image]) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        for number, picture in enumerate(pictures):
            members = {"jpg": _jpeg(picture), "json": json.dumps({"licence": "CC0-1.0"}).encode()}
            for ending, data in members.items():
                member = tarfile.TarInfo(f"{number:05}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _write_parquet(path: Path, pictures: Sequence[Image.Image]) -> None:
    path.parent.mkdir(parents=True)
    pl.DataFrame({"image": [_jpeg(picture) for picture in pictures]}).write_parquet(path)


# -- edit pairs ---------------------------------------------------------------------------------------


def _write_pairs(folder: Path, pictures: Sequence[Image.Image]) -> int:
    """Write pairs and their table, three faulty rows among them. Returns the number of good ones."""
    folder.mkdir(parents=True)
    rows = []
    plain = [picture for place, picture in enumerate(pictures) if place % PASTED]
    for number, picture in enumerate(plain[:PAIRS]):
        source, target, instruction = _edit(picture, number)
        names = [f"{number:03}-source.jpg", f"{number:03}-target.jpg"]
        for name, image in zip(names, (source, target), strict=True):
            (folder / name).write_bytes(_jpeg(image))
        rows.append((*names, instruction))
    good = len(rows)
    (folder / "wide.jpg").write_bytes(_jpeg(pictures[0].resize((900, SIDE))))
    rows += [
        ("000-source.jpg", "000-source.jpg", "Add nothing"),
        ("000-source.jpg", "wide.jpg", "Add a red disc"),
        ("000-source.jpg", "missing.jpg", "Add a red disc"),
    ]
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target", "instruction", "licence", "source_name"])
        writer.writerows((*row, "CC0-1.0", "composed") for row in rows)
    return good


def _edit(picture: Image.Image, number: int) -> tuple[Image.Image, Image.Image, str]:
    """Source, target and instruction of one of eight kinds of edit, two of them of several steps."""
    old, new, third = (tuple(COLOURS)[(number + k) % len(COLOURS)] for k in range(3))
    left, right = (0.3, 0.4), (0.7, 0.6)
    if number % 4 == 2:
        left, right = right, left
    with_old = _pasted(picture, [(old, "disc", left)])
    both = _pasted(with_old, [(new, "square", right)])
    edits = (
        (picture, with_old, f"Add a {old} disc"),
        (with_old, picture, f"Remove the {old} disc"),
        (
            both,
            _pasted(picture, [(third, "square", right)]),
            f"Remove the {old} disc, then make the {new} square {third}",
        ),
        (
            with_old,
            _pasted(picture, [(new, "square", left)]),
            f"Replace the {old} disc with a {new} square",
        ),
        (with_old, _pasted(picture, [(new, "disc", left)]), f"Make the {old} disc {new}"),
        (
            with_old,
            _pasted(picture, [(new, "disc", left), (third, "square", right)]),
            f"Make the {old} disc {new}, then add a {third} square",
        ),
        (
            picture,
            ImageOps.colorize(ImageOps.grayscale(picture), "black", "moccasin"),
            "Turn the image into a sepia photograph",
        ),
        (picture, picture.point([k // 3 for k in range(256)] * 3), "Let the time of day become night"),
    )
    return edits[number % len(edits)]
