"""GenEval's rules over detections. The same code judges plans, photographs and scenes.

Belongs here: which detections are kept, the verdict of an image.
Not here: any detector (a detector hands over `Detection`s), scores (`evaluate.scores`), drawing, or storage.
Source of every rule: the GenEval benchmark (arXiv 2310.11513) and its evaluation code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")

XYXY = tuple[float, float, float, float]


class MetadataError(ValueError):
    """A metadata row that GenEval's rules cannot judge."""


@dataclass(frozen=True, kw_only=True)
class GenEvalRules:
    """The numbers in GenEval's rules, with its defaults."""

    threshold: float = 0.3
    """Detections must score above this (strictly)."""

    counting_threshold: float = 0.9
    """The same for the counting task."""

    max_objects: int = 16
    """Most detections kept per class."""

    position_threshold: float = 0.1
    """Share of the two objects' sizes by which centres may differ without being in a relation."""

    overlap_threshold: float = 1.0
    """Detections with a higher IoU to a better one are dropped; 1.0 switches suppression off altogether."""


@dataclass(frozen=True)
class Detection:
    """One object a detector found; box in pixels (x1, y1, x2, y2), score in [0, 1], colour if classified."""

    cls: str
    score: float
    box: XYXY
    color: str | None = None


@dataclass(frozen=True)
class ClauseVerdict:
    """Outcome of one `include` or `exclude` clause; `failed` names the check that failed first."""

    kind: str
    index: int
    cls: str
    failed: str | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the clause held."""
        return self.failed is None


@dataclass(frozen=True)
class ImageVerdict:
    """Outcome of one image: correct only if no clause failed."""

    clauses: tuple[ClauseVerdict, ...]

    @property
    def correct(self) -> bool:
        """Whether every clause held."""
        return all(clause.ok for clause in self.clauses)

    @property
    def reasons(self) -> list[str]:
        """One sentence for each failed clause."""
        return [clause.reason for clause in self.clauses if clause.reason is not None]


DEFAULT_RULES = GenEvalRules()


def box_iou_inclusive(a: XYXY, b: XYXY) -> float:
    """IoU with pixels counted inclusively (+1), as GenEval's overlap suppression does."""
    overlap = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    shared = _area_inclusive(overlap)
    union = _area_inclusive(a) + _area_inclusive(b) - shared
    return shared / union if union else 0.0


def _area_inclusive(box: XYXY) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)


def keep_detections(
    detections: Iterable[Detection], tag: str, rules: GenEvalRules = DEFAULT_RULES
) -> dict[str, list[Detection]]:
    """Detections that take part, by class, best score first.

    Strictly above the task's threshold, at most `max_objects` a class (counted before suppression), then
    overlap suppression if it is on. Among equal scores the later detection comes first, as in GenEval.
    """
    threshold = rules.counting_threshold if tag == "counting" else rules.threshold
    by_class: dict[str, list[Detection]] = {}
    for detection in detections:
        if detection.score > threshold:
            by_class.setdefault(detection.cls, []).append(detection)
    return {cls: _best(found, rules) for cls, found in by_class.items()}


def _best(found: list[Detection], rules: GenEvalRules) -> list[Detection]:
    ordered = sorted(reversed(found), key=lambda d: -d.score)[: rules.max_objects]
    if rules.overlap_threshold == 1.0:
        return ordered
    kept: list[Detection] = []
    for candidate in ordered:
        if all(box_iou_inclusive(candidate.box, k.box) < rules.overlap_threshold for k in kept):
            kept.append(candidate)
    return kept


def relation(a: XYXY, b: XYXY, position_threshold: float = 0.1) -> set[str]:
    """Where box A lies relative to box B: a subset of RELATIONS, empty if they are too close together.

    The offset of the centres shrinks per axis by `position_threshold` times the two sizes, then is divided by
    the length of the *unshrunk* offset; an axis counts above 0.5 (strictly). A diagonal can be two relations.
    """
    offset = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(a[i + 2] - a[i]) + abs(b[i + 2] - b[i]) for i in (0, 1)]
    shrunk = [
        math.copysign(max(abs(o) - position_threshold * s, 0.0), o)
        for o, s in zip(offset, sizes, strict=True)
    ]
    if all(abs(r) < 1e-3 for r in shrunk):
        return set()
    length = math.hypot(*offset)
    dx, dy = shrunk[0] / length, shrunk[1] / length
    shown = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
    return {name for name, holds in zip(RELATIONS, shown, strict=True) if holds}


def evaluate_image(
    detections: Iterable[Detection], metadata: Mapping[str, Any], rules: GenEvalRules = DEFAULT_RULES
) -> ImageVerdict:
    """Judge one image's detections against a GenEval metadata row.

    `metadata`: `tag`, `include` [{class, count, color?, position?: [relation, clause index]}], `exclude`?
    [{class, count}]. Later clauses are judged even where an earlier one failed; within a clause the position
    is judged only if count and colour held. Raises MetadataError for a row that cannot be judged.
    """
    check_metadata(metadata)
    kept = keep_detections(detections, metadata["tag"], rules)
    clauses: list[ClauseVerdict] = []
    matched: list[list[Detection] | None] = []
    for index, clause in enumerate(metadata.get("include", ())):
        found = kept.get(clause["class"], [])[: clause["count"]]
        verdict = _judge_include(index, clause, found, matched, rules)
        clauses.append(verdict)
        matched.append(found if verdict.ok else None)
    for index, clause in enumerate(metadata.get("exclude", ())):
        clauses.append(_judge_exclude(index, clause, kept))
    return ImageVerdict(tuple(clauses))


def _judge_include(
    index: int,
    clause: Mapping[str, Any],
    found: list[Detection],
    matched: Sequence[list[Detection] | None],
    rules: GenEvalRules,
) -> ClauseVerdict:
    cls, count = clause["class"], clause["count"]
    if len(found) < count:
        return _failed(index, cls, "count", f"expected {cls} >= {count}, found {len(found)}")
    if "color" in clause:
        wrong = [d.color or "no colour" for d in found if d.color != clause["color"]]
        if wrong:
            return _failed(index, cls, "color", f"expected {clause['color']} {cls}, found {', '.join(wrong)}")
    if "position" in clause:
        reason = _position_fault(cls, found, clause["position"], matched, rules)
        if reason:
            return _failed(index, cls, "position", reason)
    return ClauseVerdict("include", index, cls)


def _failed(index: int, cls: str, check: str, reason: str) -> ClauseVerdict:
    return ClauseVerdict("include", index, cls, check, reason)


def _position_fault(
    cls: str,
    found: list[Detection],
    position: Sequence[Any],
    matched: Sequence[list[Detection] | None],
    rules: GenEvalRules,
) -> str | None:
    expected, target = position
    targets = matched[target]
    if targets is None:
        return f"no target for {cls} to be {expected}"
    for one in found:
        for other in targets:
            shown = relation(one.box, other.box, rules.position_threshold)
            if expected not in shown:
                others = " and ".join(sorted(shown)) or "no relation"
                return f"expected {cls} {expected} target, found {others}"
    return None


def _judge_exclude(
    index: int, clause: Mapping[str, Any], kept: Mapping[str, list[Detection]]
) -> ClauseVerdict:
    cls, found = clause["class"], len(kept.get(clause["class"], ()))
    if found >= clause["count"]:
        reason = f"expected {cls} < {clause['count']}, found {found}"
        return ClauseVerdict("exclude", index, cls, "count", reason)
    return ClauseVerdict("exclude", index, cls)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise MetadataError, naming the prompt and the clause, if the rules cannot judge this row."""
    name = metadata.get("prompt", "without a prompt")
    if "tag" not in metadata or not metadata.get("include"):
        raise MetadataError(f"metadata of {name!r}: needs a tag and at least one include clause")
    for index, clause in enumerate(metadata["include"]):
        if clause.get("count", 0) < 1 or not clause.get("class"):
            raise MetadataError(f"metadata of {name!r}, include[{index}]: needs a class and a count above 0")
        if "position" in clause:
            shown, target = clause["position"]
            if shown not in RELATIONS or not 0 <= target < index:
                raise MetadataError(
                    f"metadata of {name!r}, include[{index}]: position must be one of {RELATIONS} and point "
                    f"to an earlier clause, got {clause['position']!r}"
                )
