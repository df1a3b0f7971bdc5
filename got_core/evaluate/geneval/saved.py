"""Detections from a file: scoring without any network and without the pictures.

JSON lines, or parquet with the same columns:

    {"detector": {"name": "mmdet mask2former_swin-s", "version": "2.28"}}
    {"prompt_index": 0, "image_index": 0, "detections": [{"class": "bench", "score": 0.97,
     "box": [12.0, 40.0, 480.0, 500.0], "color": "red"}]}

The first line, or the parquet file's own metadata under `got`, says what found them. Boxes are (x1, y1, x2,
y2) in pixels; `color` is needed where a prompt names one; `image_sha256`, of the picture's file, is compared
where there is one. Belongs here: this format, read and written. Not here: judging.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.geneval.classes import geneval_name
from got_core.evaluate.geneval.detections import Asked, DetectorRecord, Found
from got_core.evaluate.geneval.prompts import NAMED
from got_core.evaluate.protocol import Network
from got_core.local_files import write_local
from got_core.planning.geneval import COLORS, XYXY, Detection, GenEvalRules

_HEADER = "got"
_COLUMNS = {"prompt_index", "image_index", "detections", "image_sha256"}
_DETECTION = frozenset({"class", "score", "box", "color"})
_LOWEST, _HIGHEST = -1e6, 1e6
"""Pixels between which boxes lie."""


class SavedDetectionsError(ValueError):
    """A file of detections that cannot be read; names the file, the lines and what is wrong with them."""


class SavedDetections:
    """The detections of a file. `by` says what found them where the file does not."""

    keeps = False
    batch_size = 4096

    def __init__(self, path: Path, *, by: Mapping[str, Any] | str | None = None) -> None:
        self.path = path
        header, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_lines(path)
        self.record = _record(path, _header(path, header, by))
        """That of the detector whose detections they are."""
        self._found = _indexed(path, rows)

    def __len__(self) -> int:
        """Pictures that the file speaks of."""
        return len(self._found)

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """Raises DetectorError where no detection is of a class that the list asks for: a detector that finds
        nothing would score 0 everywhere."""
        found = {one.cls for detections, _ in self._found.values() for one in detections}
        if not found & classes:
            others = f"only {', '.join(sorted(found)[:5])}" if found else "nothing at all"
            raise DetectorError(
                f"{self.path} has no detection of any class that the prompts ask for ({others}): nothing was "
                "scored; see whether the detector's weights fit its configuration"
            )

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        """What the file says about pictures; those that it does not speak of are unscored."""
        return [self._one(asked) for asked in pictures]

    def _one(self, asked: Asked) -> Found:
        place = (asked.sample.prompt_index, asked.sample.image_index)
        if place not in self._found:
            return Found(unscored=f"{self.path.name} has no detections of it")
        detections, sha256 = self._found[place]
        if asked.sha256 and sha256 and asked.sha256 != sha256:
            return Found(unscored=f"{self.path.name} has detections of another picture in its place")
        return Found(detections=detections)


def write_detections(path: Path, found: Iterable[tuple[Asked, Found]], record: DetectorRecord) -> None:
    """Write detections with their detector's record, as JSON lines or parquet, whole or not at all."""
    header = {key: value for key, value in asdict(record).items() if value not in (None, {})}
    rows = [_row(asked, one) for asked, one in found if one.unscored is None]
    if path.suffix == ".parquet":
        frame, buffer = pl.DataFrame(rows, schema=_SCHEMA), io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", metadata={_HEADER: json.dumps(header)})
        data = buffer.getvalue()
    else:
        data = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in [header, *rows]).encode()
    write_local(path, lambda file: file.write(data), exclusive=False)


_SCHEMA = {
    "prompt_index": pl.Int32(),
    "image_index": pl.Int32(),
    "image_sha256": pl.String(),
    "detections": pl.List(
        pl.Struct(
            {"class": pl.String(), "score": pl.Float64(), "box": pl.List(pl.Float64()), "color": pl.String()}
        )
    ),
}


def _row(asked: Asked, found: Found) -> dict[str, Any]:
    return {
        "prompt_index": asked.sample.prompt_index,
        "image_index": asked.sample.image_index,
        "image_sha256": asked.sha256,
        "detections": [
            {"class": one.cls, "score": one.score, "box": list(one.box), "color": one.color}
            for one in found.detections
        ],
    }


# ---------------------------------------------------------------- reading

_Rows = Iterator[tuple[str, Any]]
"""Where a row stands, and the row, or the error that it gave."""


def _read_lines(path: Path) -> tuple[Any, _Rows]:
    lines = path.read_bytes().split(b"\n")
    first = _parsed(lines[0])
    headed = isinstance(first, dict) and "detector" in first
    numbered = enumerate(lines, start=1)
    return (first if headed else None), (
        (f"{path}:{number}", _parsed(line))
        for number, line in numbered
        if line.strip() and not (headed and number == 1)
    )


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _read_parquet(path: Path) -> tuple[Any, _Rows]:
    try:
        header = pl.read_parquet_metadata(path).get(_HEADER)
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise SavedDetectionsError(f"{path} is not readable parquet: {error}") from error
    rows = ((f"{path}, row {number}", row) for number, row in enumerate(frame.iter_rows(named=True)))
    return (_parsed(header.encode()) if header else None), rows


def _header(path: Path, header: Any, by: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    if by is not None:
        return {"detector": {"name": by} if isinstance(by, str) else dict(by)}
    if not isinstance(header, dict) or not isinstance(header.get("detector"), dict):
        raise SavedDetectionsError(
            f"{path} does not say what found its detections: give that, or begin it with a line such as "
            '{"detector": {"name": "mmdet mask2former_swin-s", "version": "2.28"}}'
        )
    return header


def _record(path: Path, header: Mapping[str, Any]) -> DetectorRecord:
    suffix = header.get("suffix", "saved")
    objects = {name: header.get(name, {}) for name in ("networks", "prompt_texts", "resize")}
    if wrong := [name for name, value in objects.items() if not isinstance(value, dict)]:
        raise SavedDetectionsError(f"{path}: {wrong[0]} is {objects[wrong[0]]!r:.80}, not an object of names")
    if not isinstance(suffix, str):
        raise SavedDetectionsError(f"{path}: suffix is {suffix!r:.80}, not a part of the protocol's name")
    networks = objects.pop("networks")
    try:
        made = {name: Network(**one) for name, one in networks.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise SavedDetectionsError(f"{path}: what it says of its networks cannot be read: {error}") from error
    return DetectorRecord(suffix=suffix, detector=header["detector"], networks=made, **objects)


def _indexed(path: Path, rows: _Rows) -> dict[tuple[int, int], tuple[tuple[Detection, ...], str | None]]:
    found: dict[tuple[int, int], tuple[tuple[Detection, ...], str | None]] = {}
    faults = []
    for where, row in rows:
        try:
            place = _place(row)
            if place in found:
                raise ValueError(f"picture {place[1]} of prompt {place[0]} stands here a second time")
            found[place] = tuple(_detection(one) for one in row["detections"]), _sha256(row)
        except (ValueError, TypeError, KeyError) as error:
            faults.append(f"{where}: {error}")
    if faults:
        more = f"\nand {len(faults) - NAMED} more rows" if len(faults) > NAMED else ""
        raise SavedDetectionsError("\n".join(faults[:NAMED]) + more)
    return found


def _place(row: Any) -> tuple[int, int]:
    if isinstance(row, Exception):
        raise ValueError(f"is not JSON ({row})")
    if not isinstance(row, dict) or not isinstance(row.get("detections"), list) or set(row) - _COLUMNS:
        raise ValueError(
            "is no object of prompt_index, image_index, a list of detections and perhaps image_sha256"
        )
    place = row.get("prompt_index"), row.get("image_index")
    for name, value in zip(("prompt_index", "image_index"), place, strict=True):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is {value!r}, not a whole number from 0")
    return place  # type: ignore[return-value]  # both were just looked at


def _sha256(row: Mapping[str, Any]) -> str | None:
    digest = row.get("image_sha256")
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"image_sha256 is {digest!r:.80}, not 64 hex digits")
    return digest


def _detection(one: Any) -> Detection:
    if not isinstance(one, dict) or not isinstance(one.get("class"), str) or not _DETECTION.issuperset(one):
        raise ValueError(f"detection {one!r:.120} is no object of class, score, box and perhaps color")
    score, color = one.get("score"), one.get("color")
    if type(score) not in _NUMBERS or not 0 <= score <= 1:  # type: ignore[operator]
        raise ValueError(f"score of a {one['class']} is {score!r}, not a number from 0 to 1")
    if color is not None and color not in COLORS:
        raise ValueError(f"color of a {one['class']} is {color!r}, not one of {', '.join(COLORS)}")
    return Detection(geneval_name(one["class"]), float(score), _box(one), color)  # type: ignore[arg-type]


_NUMBERS = (float, int)


def _box(one: Mapping[str, Any]) -> XYXY:
    box = one.get("box")
    if isinstance(box, list) and len(box) == 4:
        x1, y1, x2, y2 = box
        numbers = all(type(side) in _NUMBERS for side in box)  # infinity and NaN fail below
        if numbers and _LOWEST <= x1 <= x2 <= _HIGHEST and _LOWEST <= y1 <= y2 <= _HIGHEST:
            return float(x1), float(y1), float(x2), float(y2)
    raise ValueError(f"box of a {one['class']} is {box!r:.120}, not [x1, y1, x2, y2] in pixels")
