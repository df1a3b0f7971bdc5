"""Judging pictures: found once, kept by sample, and judged by GenEval's rules.

Belongs here: what is kept, finding what is missing, and the table of verdicts. Not here: a detector, the
rules (`planning.geneval`), or scores (`benchmark`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
from PIL import Image

from got_core.evaluate.geneval.detections import (
    Asked,
    Detector,
    Found,
    counted_detections,
    detect_each,
    lacks_colour,
)
from got_core.evaluate.geneval.layout import Pictures, picture_image
from got_core.evaluate.geneval.prompts import Sample, Samples
from got_core.evaluate.protocol import digest_of
from got_core.planning.geneval import Detection, GenEvalRules, evaluate_image

if TYPE_CHECKING:
    from got_core.storage import Storage

Progress = Callable[[int, int], None]
"""Called with (done, total) after each batch."""

COLUMNS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "prompt_index": pl.Int32(),
    "image_index": pl.Int32(),
    "task": pl.String(),
    "prompt": pl.String(),
    "image": pl.String(),
    "image_sha256": pl.String(),
    "correct": pl.Boolean(),
    "unscored": pl.String(),
    "failed": pl.List(pl.String()),
    "reason": pl.String(),
    "found": pl.String(),
}
"""`correct` is null where `unscored` says why; `failed`: the checks that failed (count, color, position);
`found`: the detections that count, as JSON."""

MISSING = "the picture is missing"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a detector's finds are kept: one document a picture, each whole or not there."""

    storage: Storage
    prefix: str
    key: str
    """Digest of the detector and of the rules that choose what it classifies."""

    def name(self, sample: Sample) -> str:
        """Of a sample's document."""
        return f"{self.prefix.rstrip('/')}/{self.key}/{sample.id}.json"

    def read(self, asked: Sequence[Asked]) -> dict[str, Found]:
        """Finds of these very pictures, by sample id; of others and damaged ones none."""
        stored = set(self.storage.list(f"{self.prefix.rstrip('/')}/{self.key}/"))
        names = {self.name(one.sample): one for one in asked if self.name(one.sample) in stored}
        documents = self.storage.read_many(names)
        found = {names[name].sample.id: _found(data, names[name]) for name, data in documents.items()}
        return {sample: one for sample, one in found.items() if one is not None}

    def write(self, asked: Asked, found: Found) -> None:
        """Keep what was found in a picture."""
        document = {
            "about": _about(asked),
            "detections": [[one.cls, one.score, list(one.box), one.color] for one in found.detections],
        }
        self.storage.write_bytes(self.name(asked.sample), json.dumps(document).encode())


def _about(asked: Asked) -> str:
    """Which picture and prompt a find is of; colours depend on the prompt too."""
    return digest_of([asked.sha256, dict(asked.sample.row)])


def _found(data: bytes, asked: Asked) -> Found | None:
    try:
        document = json.loads(data)
        if document["about"] != _about(asked):
            return None
        return Found(
            detections=tuple(
                Detection(cls, float(score), (box[0], box[1], box[2], box[3]), color)
                for cls, score, box, color in document["detections"]
            )
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def kept_key(detector: Detector, rules: GenEvalRules) -> str:
    """Of what a detector finds under some rules (12 hex digits)."""
    return digest_of([dataclasses.asdict(detector.record), dataclasses.asdict(rules)])


def find_all(
    samples: Samples,
    pictures: Pictures | None,
    detector: Detector,
    kept: Kept | None,
    rules: GenEvalRules,
    progress: Progress | None = None,
) -> dict[str, Found]:
    """What the detector finds in the pictures, by sample id; what is kept already is not found again.

    The detector is checked before it finds anything. Without `pictures` it is asked about every sample.
    """
    asked = asked_of(samples, pictures)
    found = kept.read(asked) if kept and detector.keeps else {}
    missing = [one for one in asked if one.sample.id not in found]
    if progress:
        progress(len(found), len(asked))
    if missing:
        detector.check(samples.classes, rules)
    for batch, results in detect_each(detector, _batches(missing, detector.batch_size), rules):
        for one, result in zip(batch, results, strict=True):
            found[one.sample.id] = result
            if kept and detector.keeps and result.unscored is None:
                kept.write(one, result)
        if progress:
            progress(len(found), len(asked))
    return found


def asked_of(samples: Samples, pictures: Pictures | None) -> list[Asked]:
    """All samples that have pictures; without any, all samples."""
    if pictures is None:
        return [Asked(sample=sample, sha256=None, size=None, image=_no_picture) for sample in samples.all]
    return [_asked(sample, pictures) for sample in samples.all if sample.id in pictures.found]


def _asked(sample: Sample, pictures: Pictures) -> Asked:
    picture = pictures.found[sample.id]
    return Asked(
        sample=sample,
        sha256=picture.sha256,
        size=picture.size,
        image=partial(picture_image, pictures.storage, picture),
    )


def _no_picture() -> Image.Image:
    raise ValueError("there are no pictures: read their folder first, or take saved detections")


def _batches(asked: Sequence[Asked], most: int) -> Iterator[list[Asked]]:
    """Pictures of one size together: a network pads others, which moves what it finds."""
    by_size: dict[Any, list[Asked]] = {}
    for one in asked:
        by_size.setdefault(one.size, []).append(one)
    for group in by_size.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


def verdicts(
    samples: Samples, pictures: Pictures | None, found: Mapping[str, Found], rules: GenEvalRules
) -> pl.DataFrame:
    """One row (COLUMNS) for every sample of the list, also for those that are missing or unscored."""
    images = {} if pictures is None else pictures.found
    problems = {} if pictures is None else {one.sample: str(one) for one in pictures.problems}
    rows = []
    for sample in samples.all:
        picture, result = images.get(sample.id), found.get(sample.id)
        rows.append(
            {
                "sample_id": sample.id,
                "prompt_index": sample.prompt_index,
                "image_index": sample.image_index,
                "task": sample.row["tag"],
                "prompt": sample.row["prompt"],
                "image": picture.name if picture else None,
                "image_sha256": picture.sha256 if picture else None,
                **_verdict(sample, result or Found(unscored=problems.get(sample.id, MISSING)), rules),
            }
        )
    return pl.DataFrame(rows, schema=COLUMNS)


def _verdict(sample: Sample, found: Found, rules: GenEvalRules) -> dict[str, Any]:
    counted = counted_detections(found.detections, sample.row, rules)
    unscored = found.unscored or lacks_colour(counted, sample.row)
    if unscored:
        return {"correct": None, "unscored": unscored, "failed": [], "reason": None, "found": None}
    verdict = evaluate_image(found.detections, sample.row, rules)
    return {
        "correct": verdict.correct,
        "unscored": None,
        "failed": [clause.failed for clause in verdict.clauses if clause.failed],
        "reason": "; ".join(verdict.reasons) or None,
        "found": json.dumps(
            [[one.cls, one.score, one.box, one.color] for kept in counted.values() for one in kept]
        ),
    }
