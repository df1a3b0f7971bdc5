"""Writes the embedded corpus: plain image files, a table of edit pairs, and (elsewhere) the renderer's truth.

The raw folder holds images only, as a user's own folder would; the truth is kept outside it, keyed by the
SHA-256 of each file's bytes, and is read by accuracy checks, never by annotation.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from PIL import Image
from scipy.optimize import linear_sum_assignment

from got_core.local_files import TEMPORARY_SUFFIX, temporary_beside
from got_core.scenes.config import TASKS, CorpusConfig
from got_core.scenes.reader import NotASceneError, read_scene
from got_core.scenes.reasoning import ASKED, sample_reasoning
from got_core.scenes.render import render
from got_core.scenes.sample import sample_edit, sample_multi_turn, sample_scene
from got_core.scenes.world import PixelBox, Scene, World, iou

WRITER_VERSION = 1
"""Raise it when the same configuration gives other files."""

TRUTH: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "path": pl.String(),
    "kind": pl.String(),
    "style": pl.String(),
    "background": pl.String(),
    "size": pl.Int32(),
    "objects": pl.List(
        pl.Struct(
            {
                "shape": pl.String(),
                "color": pl.String(),
                "x1": pl.Int32(),
                "y1": pl.Int32(),
                "x2": pl.Int32(),
                "y2": pl.Int32(),
            }
        )
    ),
}
"""Truth table: SHA-256 of the file, path below its folder, image | edit_source | edit_target, task or edit
kind (or MULTI_TURN, REASONING), background tone, side in pixels, objects with pixel boxes (exclusive)."""

MULTI_TURN = "multi_turn"
"""Stands for the kind of an edit of several steps."""
REASONING = "reasoning"
"""Stands for the kind of an edit whose instruction needs reasoning."""

Progress = Callable[[int, int], None]
"""Called with files done and files in all."""

PART_SIZE = 250
"""Pictures, or pairs, that are written together."""


def corpus_digest(world: World, config: CorpusConfig) -> str:
    """12 hex digits that name the corpus a world and configuration give."""
    text = json.dumps([WRITER_VERSION, asdict(world), asdict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_corpus(
    world: World,
    config: CorpusConfig,
    raw_dir: Path,
    edits_dir: Path,
    truth_path: Path,
    progress: Progress | None = None,
    each: Each | None = None,
) -> dict[str, int]:
    """Render what is missing and return {"images", "edits", "written"}; a finished corpus costs no rendering.
    `edits` counts pairs of all kinds. `each` has other processes write the parts, which are the same in any
    order; without it, they are written here.

    Files whose bytes are right are left untouched, files of an earlier corpus named by the old truth are
    removed if nobody changed them, others are not touched. The truth is written last. Raises ValueError if
    the truth would lie in the raw folder. One call at a time works on a corpus: others would render the same
    and remove what it has not finished.
    """
    raw_dir, edits_dir, truth_path = Path(raw_dir), Path(edits_dir), Path(truth_path)
    if truth_path.resolve().is_relative_to(raw_dir.resolve()):
        raise ValueError(
            f"the truth {truth_path} lies inside the raw folder {raw_dir}: choose a place outside it"
        )
    digest, counts = corpus_digest(world, config), {"images": config.images, "edits": config.pairs}
    folders = {"image": raw_dir, "edit_source": edits_dir, "edit_target": edits_dir}
    if _is_finished(truth_path, digest, folders, edits_dir):
        return counts | {"written": 0}
    _remove_unfinished(raw_dir, edits_dir)
    parts = _parts(world, config, raw_dir, edits_dir)
    done: dict[int, WrittenPart] = {}
    for part in each(parts) if each else (one.write() for one in parts):
        done[part.number] = part
        if progress:
            progress(sum(len(one.rows) for one in done.values()), config.images + 2 * config.pairs)
    rows = [row for number in range(len(parts)) for row in done[number].rows]
    instructions = [text for number in range(len(parts)) for text in done[number].instructions]
    written = sum(one.written for one in done.values())
    written += _write(edits_dir / "pairs.csv", _pair_table(instructions))
    _remove_earlier(truth_path, folders, {(row["kind"], row["path"]) for row in rows})
    frame = pl.DataFrame(rows, schema=TRUTH)
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", metadata={"corpus": digest})
    _write(truth_path, buffer.getvalue())
    return counts | {"written": written}


@dataclass(frozen=True, kw_only=True)
class CorpusPart:
    """A stretch of the corpus: pictures of the raw folder, or pairs of edits. It can be sent to a process."""

    number: int
    """Its place among all parts."""
    world: World
    config: CorpusConfig
    folder: Path
    """The raw folder, or that of edits."""
    pairs: bool
    indices: range

    def write(self) -> WrittenPart:
        """Render the part; files whose bytes are right are left untouched."""
        rows, instructions, written = [], [], 0
        for row, data, instruction in self.files():
            written += _write(self.folder / row["path"], data)
            rows.append(row)
            if instruction is not None:
                instructions.append(instruction)
        return WrittenPart(self.number, rows, instructions, written)

    def files(self) -> Iterator[tuple[dict[str, Any], bytes, str | None]]:
        """Truth and bytes of every file; with an edit's source also its instruction."""
        for index in self.indices:
            if not self.pairs:
                yield *_image_file(self.world, self.config, index), None
                continue
            source, target, kind, instruction = _edit(self.world, self.config, index)
            for scene, role, text in ((source, "source", instruction), (target, "target", None)):
                data = _encode(render(scene), None)
                yield _truth_row(scene, data, f"{index:05d}-{role}.png", f"edit_{role}", kind), data, text


@dataclass(frozen=True)
class WrittenPart:
    """What came of a part."""

    number: int
    rows: list[dict[str, Any]]
    """Of the truth."""
    instructions: list[str]
    written: int
    """Files that were not there, or had other bytes."""


Each = Callable[[Sequence[CorpusPart]], Iterable[WrittenPart]]
"""Writes parts, in any order."""


def _parts(world: World, config: CorpusConfig, raw_dir: Path, edits_dir: Path) -> list[CorpusPart]:
    stretches = [
        (folder, pairs, range(start, min(start + PART_SIZE, count)))
        for folder, pairs, count in ((raw_dir, False, config.images), (edits_dir, True, config.pairs))
        for start in range(0, count, PART_SIZE)
    ]
    return [
        CorpusPart(number=k, world=world, config=config, folder=folder, pairs=pairs, indices=indices)
        for k, (folder, pairs, indices) in enumerate(stretches)
    ]


def samples_of(world: World, config: CorpusConfig, count: int) -> Iterator[bytes]:
    """So many files of a corpus, pictures and pairs in its own shares and of all kinds."""
    files = config.images + 2 * config.pairs
    images, pairs = round(count * config.images / files), round(count * config.pairs / files)
    for index in range(images):
        yield _image_file(world, config, index)[1]
    for number in range(pairs):
        source, target, _, _ = _edit(world, config, number * config.pairs // pairs)
        yield from (_encode(render(scene), None) for scene in (source, target))


def _image_file(world: World, config: CorpusConfig, index: int) -> tuple[dict[str, Any], bytes]:
    rng = np.random.default_rng([config.seed, 0, index])
    style = _evenly(TASKS, config.seed, index)
    scene = sample_scene(world, rng, style)
    quality = int(rng.integers(90, 96)) if rng.random() < config.jpeg_share else None
    data = _encode(render(scene), quality)
    suffix = "png" if quality is None else "jpg"
    path = f"set-{index // config.folder_size:02d}/{index:06d}.{suffix}"
    return _truth_row(scene, data, path, "image", style), data


def _edit(world: World, config: CorpusConfig, index: int) -> tuple[Scene, Scene, str, str]:
    if index >= config.named_pairs:
        number = index - config.named_pairs
        rng = np.random.default_rng([config.seed, 4, number])
        task = _evenly(tuple(ASKED), config.seed, number)
        source, target, _, text = sample_reasoning(world, rng, task, config.place_draws)
        return source, target, REASONING, text
    if index >= config.edits:
        rng = np.random.default_rng([config.seed, 3, index - config.edits])
        source, target, _, text = sample_multi_turn(world, rng, place_draws=config.place_draws)
        return source, target, MULTI_TURN, text
    kind = _evenly(config.edit_kinds, config.seed, index)
    rng = np.random.default_rng([config.seed, 1, index])
    source, target, _, text = sample_edit(world, rng, kind, config.place_draws)
    return source, target, kind, text


def _evenly(names: tuple[str, ...], seed: int, index: int) -> str:
    """Every block holds each name as often as it is given, in an order of the block's own."""
    block, place = divmod(index, len(names))
    return names[int(np.random.default_rng([seed, 2, block]).permutation(len(names))[place])]


def _truth_row(scene: Scene, data: bytes, path: str, kind: str, style: str) -> dict[str, Any]:
    return {
        "image_id": hashlib.sha256(data).hexdigest(),
        "path": path,
        "kind": kind,
        "style": style,
        "background": scene.background.tone,
        "size": scene.size,
        "objects": [
            {"shape": o.shape, "color": o.color, "x1": o.x1, "y1": o.y1, "x2": o.x2, "y2": o.y2}
            for o in scene.objects
        ],
    }


def _pair_table(instructions: Iterable[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "target", "instruction"])
    for index, instruction in enumerate(instructions):
        writer.writerow([f"{index:05d}-source.png", f"{index:05d}-target.png", instruction])
    return text.getvalue().encode()


def _encode(image: Image.Image, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> bool:
    """Write by temporary name and move; False if the file already holds these bytes (its time then stays)."""
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a process whose parent was killed may still be writing the same file.
    partial = temporary_beside(path)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _remove_unfinished(*folders: Path) -> None:
    """What runs that were killed have left behind."""
    for folder in folders:
        for path in folder.rglob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


def _is_finished(truth_path: Path, digest: str, folders: dict[str, Path], edits_dir: Path) -> bool:
    if not truth_path.is_file() or pl.read_parquet_metadata(truth_path).get("corpus") != digest:
        return False
    named = pl.read_parquet(truth_path, columns=["kind", "path"], glob=False).iter_rows()
    return (edits_dir / "pairs.csv").is_file() and all(
        (folders[kind] / path).is_file() for kind, path in named
    )


def _remove_earlier(truth_path: Path, folders: dict[str, Path], current: set[tuple[str, str]]) -> None:
    if not truth_path.is_file():
        return
    earlier = pl.read_parquet(truth_path, columns=["kind", "path", "image_id"], glob=False)
    for kind, path, image_id in earlier.iter_rows():
        file = folders[kind] / path
        if (kind, path) in current or not file.is_file():
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest() == image_id:
            file.unlink()


# ---------------------------------------------------------------- accuracy of a reader


class Seen(Protocol):
    """An object as it was read."""

    @property
    def shape(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def box(self) -> PixelBox: ...


def reader_accuracy(
    truth: pl.DataFrame,
    images: Iterable[tuple[str, Image.Image]],
    look: Callable[[Image.Image], Sequence[Seen]] = read_scene,
) -> dict[str, float]:
    """How well a reader (`look`, which raises NotASceneError) reads pictures whose truth is known.

    `truth` has TRUTH's columns; `images` gives (image_id, picture) and may hold ids that the truth does not
    know, which are skipped. Found objects are matched to true ones by best total IoU. Returns shares of all
    true objects whose `shape` / `color` was read right (a missed object counts as wrong), `count` = share
    of objects in pictures whose number of objects was read right, `box_iou` = mean IoU over true objects (0
    for a missed one), and the numbers `objects`, `images`, `refused` (pictures read as no scene). Raises
    ValueError if no picture is known.
    """
    known = {row["image_id"]: row["objects"] for row in truth.iter_rows(named=True)}
    sums = dict.fromkeys(("shape", "color", "count", "box_iou", "objects", "images", "refused"), 0.0)
    for image_id, image in images:
        if image_id in known:
            for name, value in _accuracy_of(known[image_id], image, look).items():
                sums[name] += value
    if not sums["objects"]:
        raise ValueError(
            "none of the pictures is in the truth table: do raw folder and truth belong together?"
        )
    shares = ("shape", "color", "count", "box_iou")
    return {name: value / sums["objects"] if name in shares else value for name, value in sums.items()}


def _accuracy_of(
    objects: list[dict[str, Any]], image: Image.Image, look: Callable[[Image.Image], Sequence[Seen]]
) -> dict[str, float]:
    refused = 0
    try:
        found = look(image)
    except NotASceneError:
        found, refused = [], 1
    overlap = np.array([[iou(_box(o), f.box) for f in found] for o in objects]).reshape(
        len(objects), len(found)
    )
    pairs = [
        (objects[i], found[j], overlap[i, j]) for i, j in zip(*linear_sum_assignment(-overlap), strict=True)
    ]
    return {
        "shape": sum(1.0 for o, f, iou in pairs if o["shape"] == f.shape and iou > 0),
        "color": sum(1.0 for o, f, iou in pairs if o["color"] == f.color and iou > 0),
        "count": len(objects) * (len(found) == len(objects)),
        "box_iou": float(sum(iou for _, _, iou in pairs)),
        "objects": len(objects),
        "images": 1,
        "refused": refused,
    }


def _box(item: dict[str, Any]) -> tuple[int, int, int, int]:
    return (item["x1"], item["y1"], item["x2"], item["y2"])
