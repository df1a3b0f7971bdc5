"""`emu_edit`: the Emu-Edit test set, and edits of it from a generations set or a folder.

Belongs here: the two published data sets, joined on `idx` and `hash`. Not here: judging (`judging`).

The edited picture is compared with the picture that was edited: there are no targets, and a model that copies
wins on CLIP-I, DINO and L1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from got_core.evaluate.emu_edit.benchmark import EditBenchmark
from got_core.evaluate.emu_edit.metrics import ZERO
from got_core.evaluate.emu_edit.parquet import (
    ParquetPictures,
    files_of_split,
    parquet_files,
    rows_of,
    split_of,
)
from got_core.evaluate.emu_edit.samples import (
    PLACEHOLDERS,
    BenchmarkDataError,
    EditSample,
    EditSamples,
    Faults,
    text_of,
    why_bad,
)

PUBLISHED = {"validation": 2022, "test": 3589}
"""Rows of the splits of the test set; the generations set has them the other way round."""

_KEYS = ("idx", "hash")
_TEXTS = ("instruction", "task", "input_caption", "output_caption")


@dataclass(frozen=True, kw_only=True)
class EmuEdit(EditBenchmark):
    """Emu-Edit's test set with CLIP-I, CLIP-T, CLIP-dir, L1 and DINO."""

    name: ClassVar[str] = "emu_edit"
    data: ClassVar[str] = "facebook/emu_edit_test_set"
    directed: ClassVar[bool] = True
    compared_with: ClassVar[str] = "source"

    def rules(self) -> dict[str, Any]:
        """With which captions are left out of the filtered score, and when CLIP-dir is not defined."""
        return {
            **super().rules(),
            "filtered": {"placeholders": list(PLACEHOLDERS), "no_caption": True, "identical_captions": True},
            "clip_dir": {"zero": ZERO, "no_text_direction": "left out", "no_picture_direction": 0},
        }

    def place(self, key: str) -> str:
        """`IDX_HASH`, all in one folder."""
        return key

    def read(self, data: Path | str) -> EditSamples:
        """The samples of a split, from the folder or file that was downloaded.

        Rows without `idx` or `hash`, without instruction, or with both of an earlier row are named in a
        BenchmarkDataError, or left out if `partial`.
        """
        faults = Faults(f"{data}, split {self.split}")
        samples: dict[str, EditSample] = {}
        places: dict[str, tuple[Path, str, int]] = {}
        for path in files_of_split(data, self.split):
            for number, row in enumerate(rows_of(path, (*_KEYS, *_TEXTS), ["image"], texts=_TEXTS)):
                where = f"{path.name} row {number}"
                key = _new_key(row, samples, faults, where)
                if key and not text_of(row["instruction"]):
                    faults.add("rows without an instruction", where)
                elif key:
                    samples[key], places[key] = _sample(key, row), (path, "image", number)
        if not samples:
            faults.add("no samples", "it has no row that can be judged")
        notes = faults.settle(partial=self.partial and bool(samples))
        return EditSamples(
            samples=tuple(samples.values()),
            pictures=ParquetPictures(places),
            data=self.data,
            split=self.split,
            notes=(*notes, *self._about_size(len(samples))),
        )

    def _about_size(self, found: int) -> Iterator[str]:
        if found != (published := PUBLISHED.get(self.split)):
            yield f"{found} samples; the published split {self.split!r} has {published or 'no such rows'}"

    def generations(self, data: Path | str, samples: EditSamples, model: str | None = None) -> Generations:
        """Edited pictures of a generations set.

        Its rows are found by `idx` and `hash`, in whichever of its splits they are: the published set names
        its splits the other way round than the test set, which is then said in `notes`. `model`: whose rows,
        where the set holds several models. Raises BenchmarkDataError that names missing, repeated and
        superfluous rows, unless `partial`.
        """
        rows = list(_generated(data))
        rows = _of_model(rows, model, data)
        wanted = {one.key for one in samples.samples}
        splits = _splits_with(rows, wanted)
        faults, places = Faults(str(data)), {}
        for row in rows:
            if row["file_split"] not in splits:
                continue
            if row["key"] not in wanted:
                faults.add("rows of no sample", row["where"])
            elif row["key"] in places:
                faults.add("rows that repeat idx and hash of another", row["where"])
            else:
                places[row["key"]] = row["place"]
        faults.add("samples without a row", *(key for key in sorted(wanted) if key not in places))
        notes = faults.settle(partial=self.partial)
        return Generations(places, (*notes, *_about_splits(splits, samples.split)))


class Generations(ParquetPictures):
    """Edited pictures of a generations set; `notes`: what was found about it, one line each."""

    def __init__(self, places: dict[str, tuple[Path, str, int]], notes: tuple[str, ...]) -> None:
        super().__init__(places)
        self.notes = notes


def _new_key(row: dict[str, Any], known: dict[str, Any], faults: Faults, where: str) -> str | None:
    key = _key(row)
    if key is None:
        faults.add("rows without idx or hash", where)
    elif key in known:
        faults.add("rows that repeat idx and hash of another", f"{where}: {key}")
        return None
    return key


def _key(row: dict[str, Any]) -> str | None:
    """`IDX_HASH`, as a file can be named."""
    idx, hash_ = (row[name] for name in _KEYS)
    return None if idx is None or not hash_ else quote(f"{idx}_{hash_}", safe="")


def _sample(key: str, row: dict[str, Any]) -> EditSample:
    captions = [row[name] or "" for name in ("input_caption", "output_caption")]
    return EditSample(
        key=key,
        task=row["task"] or "",
        instruction=row["instruction"],
        source=key,
        reference=key,
        input_caption=captions[0],
        output_caption=captions[1],
        bad=why_bad(*captions),
    )


# -- the generations set -----------------------------------------------------------------------------


def _generated(data: Path | str) -> Iterator[dict[str, Any]]:
    for path in parquet_files(data):
        for number, row in enumerate(rows_of(path, (*_KEYS, "model"), ["edited_image"])):
            yield {
                "key": _key(row),
                "model": row["model"],
                "file_split": split_of(path),
                "place": (path, "edited_image", number),
                "where": f"{path.name} row {number}",
            }


def _of_model(rows: list[dict[str, Any]], model: str | None, data: Path | str) -> list[dict[str, Any]]:
    models = sorted({str(row["model"]) for row in rows})
    if model is None and len(models) > 1:
        raise BenchmarkDataError(f"{data} holds edits of {', '.join(models)}: choose one of these models")
    if model is not None and model not in models:
        raise BenchmarkDataError(f"{data} holds no edits of {model!r}, only of {', '.join(models)}")
    return [row for row in rows if model is None or str(row["model"]) == model]


def _splits_with(rows: list[dict[str, Any]], wanted: set[str]) -> list[str | None]:
    """The splits to take, those with most of the samples first, until all samples are there."""
    found = Counter(row["file_split"] for row in rows if row["key"] in wanted)
    chosen, left = [], set(wanted)
    for split, _ in found.most_common():
        if left & (here := {row["key"] for row in rows if row["file_split"] == split}):
            chosen.append(split)
            left -= here
    return chosen


def _about_splits(splits: list[str | None], wanted: str) -> Iterator[str]:
    others = [split for split in splits if split not in (None, wanted)]
    if others:
        yield (
            f"the generations set has the samples of {wanted!r} in its split "
            f"{' and '.join(map(repr, others))}: its splits are named otherwise; rows were joined on idx and "
            "hash"
        )
