"""How much of what an edit asks for a picture shows: the exact counterpart of a judge's score for success.

Belongs here: which aspects of which objects an edit asks for, and how many of them a picture has. Not here:
what else changed (`excess`), whole scenes (`agreement`), or any benchmark.

The rule. Each object that an edit adds, removes or changes counts alike, and is worth 0 to 1:

- one that has to go: 1 if no object of its look is left and its place is empty, else 0;
- one that has to be there: of all objects found that belong to nothing else, the best one's share of the
  aspects asked for. Asked for are those of shape, colour, place, and no longer standing where it stood, that
  the source does not have yet. Where only shape or colour are asked for, the object has to stand in its
  place. Each aspect that had to stay and did not halves the share, and less than half is nothing.

The success is ten times their mean. A copied source has none of what is asked for, and neither has an edit of
another object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from got_core.evaluate.edit_rules import Expected, Look, matches_words
from got_core.planning.geneval import XYXY, Detection
from got_core.planning.objects import iou
from got_core.scenes.world import Scene

Holds = Callable[[Detection], bool]


@dataclass(frozen=True, kw_only=True)
class ExactRules:
    """The numbers in the verdicts."""

    threshold: float = 0.3
    """Detections must score above this (strictly)."""

    keep_iou: float = 0.7
    """IoU from which an object is where it was."""

    at_iou: float = 0.5
    """IoU from which whatever is found stands in an object's place."""

    clear_iou: float = 0.1
    """IoU below which an object that is not where the words put it has at least left its place."""

    halo: int = 2
    """Pixels around old and new boxes that may change too: an object's edge is soft."""

    floor: float = 12.0
    """Levels (of 255) by which any pixel may change: an autoencoder does that much."""

    right_from: float = 0.8
    """Value from which a picture counts as right where its cause of failure is told."""


@dataclass(frozen=True)
class Success:
    """What a picture shows of an edit."""

    score: float
    """0 to 10."""

    reason: str | None
    """What is missing; None where nothing is."""

    boxes: tuple[XYXY, ...]
    """Of the objects taken for the added and changed ones."""

    placed: Mapping[Look, XYXY]
    """Boxes of those that words place, by their look, where all that is asked of them holds."""


def confident(found: Sequence[Detection], rules: ExactRules) -> list[Detection]:
    """The detections that count."""
    return [one for one in found if one.score > rules.threshold]


def success_of(
    found: Sequence[Detection], source: Scene, expected: Sequence[Expected], rules: ExactRules
) -> Success:
    """The success of an edit. `expected`: as `edit_rules.expected_objects` gives it for this source."""
    found = confident(found, rules)
    picture = _Picture(found, _unclaimed(found, expected, rules), source, expected, rules)
    shares, reasons, boxes = [], [], list[XYXY]()
    placed: dict[Look, XYXY] = {}
    for number, one in enumerate(expected):
        if not one.changed:
            continue
        share, best, missing = picture.share_of(number)
        shares.append(share)
        if missing:
            reasons.append(f"the {' '.join(one.look)}: {missing}")
        if best is not None:
            boxes.append(best.box)
            if one.op is not None and share == 1:
                placed[one.look] = best.box
    score = 10 * sum(shares) / len(shares) if shares else 0.0
    return Success(score, "; ".join(reasons) or None, tuple(boxes), placed)


def _unclaimed(
    found: Sequence[Detection], expected: Sequence[Expected], rules: ExactRules
) -> list[Detection]:
    """The detections that no object that had to stay has a claim to: what stands in its place, else what
    looks like it."""
    free = list(found)
    staying = [one for one in expected if not one.changed]
    for one in staying:
        assert one.box is not None
        at = max(free, key=lambda d: iou(d.box, one.box), default=None)  # type: ignore[arg-type]
        if at is not None and iou(at.box, one.box) >= rules.at_iou:
            free.remove(at)
        else:
            alike = [d for d in free if (d.color, d.cls) == one.look]
            if alike and not any(other.changed and other.look == one.look for other in expected):
                free.remove(alike[0])
    return free


@dataclass(frozen=True)
class _Picture:
    """What was found in a picture, beside what an edit asks for."""

    found: Sequence[Detection]
    free: Sequence[Detection]
    source: Scene
    expected: Sequence[Expected]
    rules: ExactRules

    def share_of(self, number: int) -> tuple[float, Detection | None, str]:
        """Share of what is asked of object `number`, what was taken for it, and what is missing."""
        one = self.expected[number]
        if one.gone:
            missing = self._remains(number)
            return float(not missing), None, missing
        aspects = self._aspects(number)
        asked = self._asked(number, aspects)
        tries = [(self._value(aspects, asked, d), d) for d in self.free if self._may_be(number, d)]
        if not tries:
            return 0.0, None, "not found"
        share, best = max(tries, key=lambda pair: (pair[0], pair[1].score))
        missing = ", ".join(name for name, holds in aspects.items() if not holds(best))
        return (share, best, missing) if share >= 0.5 else (0.0, None, missing or "not found")

    def _remains(self, number: int) -> str:
        """What is left of an object that has to go."""
        look, old = self._look(number), self.expected[number].old
        wanted = {one.look for one in self.expected if one.changed and not one.gone}
        if look not in wanted and any((d.color, d.cls) == look for d in self.free):
            return "still there"
        at = [d for d in self.free if old is not None and iou(d.box, old) >= self.rules.at_iou]
        strange = [d for d in at if (d.color, d.cls) not in wanted]
        return f"a {strange[0].color} {strange[0].cls} stands in its place" if strange else ""

    def _look(self, number: int) -> Look | None:
        """In the source; None for an added object."""
        if number >= len(self.source.objects):
            return None
        one = self.source.objects[number]
        return one.color, one.shape

    def _may_be(self, number: int, detection: Detection) -> bool:
        """Whether what was found may be that object: in its place if it keeps it, and no other one in its."""
        one = self.expected[number]
        if one.box is not None:
            return iou(detection.box, one.box) >= self.rules.at_iou
        return not any(self._is_other(k, detection) for k in range(len(self.source.objects)) if k != number)

    def _is_other(self, number: int, detection: Detection) -> bool:
        """Whether it stands where that object of the source stood, which keeps its place or is as it was."""
        one = self.expected[number]
        if one.old is None or iou(detection.box, one.old) < self.rules.at_iou:
            return False
        keeps = one.box is not None and not one.gone
        return keeps or (detection.color, detection.cls) == self._look(number)

    def _aspects(self, number: int) -> dict[str, Holds]:
        one = self.expected[number]
        color, shape = one.look
        aspects: dict[str, Holds] = {
            "shape": lambda d: d.cls == shape,
            "colour": lambda d: d.color == color,
        }
        if one.op is not None and one.box is None:
            aspects["place"] = lambda d: self._placed(one, d.box)
            if one.old is not None:
                left = self._left(number)
                aspects["still in its old place"] = lambda d: left
        return aspects

    def _placed(self, one: Expected, box: XYXY) -> bool:
        assert one.op is not None
        anchor = None
        if one.anchor is not None:
            anchor = one.anchor_box or _best(self.found, self.expected[one.anchor].look)
        return matches_words(box, one.op, anchor, self.source.size)

    def _left(self, number: int) -> bool:
        """Whether nothing of the object's look stands where it stood. Where it is put by its words, it may
        overlap its old place."""
        one, rules = self.expected[number], self.rules
        assert one.old is not None
        looks = {one.look, self._look(number)}
        alike = [d for d in self.free if (d.color, d.cls) in looks]
        return not any(
            iou(d.box, one.old) >= (rules.keep_iou if self._placed(one, d.box) else rules.clear_iou)
            for d in alike
        )

    def _asked(self, number: int, aspects: Mapping[str, Holds]) -> set[str]:
        """Those that the source does not have."""
        look, one = self._look(number), self.expected[number]
        if look is None or one.old is None:
            return set(aspects)
        was = Detection(look[1], 1.0, one.old, look[0])
        return {name for name, holds in aspects.items() if name == "still in its old place" or not holds(was)}

    @staticmethod
    def _value(aspects: Mapping[str, Holds], asked: set[str], detection: Detection) -> float:
        held = [aspects[name](detection) for name in asked]
        lost = [name for name, holds in aspects.items() if name not in asked and not holds(detection)]
        return sum(held) / len(held) * 0.5 ** len(lost)


def _best(found: Sequence[Detection], look: Look) -> XYXY | None:
    alike = [d for d in found if (d.color, d.cls) == look]
    return max(alike, key=lambda d: d.score).box if alike else None
