"""GenEval's rules on hand-made detections."""

from __future__ import annotations

import numpy as np
import pytest

from got_core.planning.geneval import (
    Detection,
    GenEvalRules,
    MetadataError,
    box_iou_inclusive,
    evaluate_image,
    keep_detections,
    relation,
)
from got_core.scenes.prompts import counting, parse_prompt
from got_core.scenes.world import relations

LEFT, RIGHT = (0.0, 40.0, 20.0, 60.0), (60.0, 40.0, 80.0, 60.0)


def found(cls: str, box=LEFT, color: str | None = None, score: float = 0.95) -> Detection:
    return Detection(cls, score, box, color)


def row(*include: dict, tag: str = "two_object", exclude: tuple = ()) -> dict:
    return {"tag": tag, "prompt": "p", "include": list(include), "exclude": list(exclude)}


def clause(cls: str, count: int = 1, **more) -> dict:
    return {"class": cls, "count": count, **more}


class TestRelation:
    """Two 100 px boxes: the centre must move by more than 40 px."""

    BASE = (0.0, 0.0, 100.0, 100.0)

    @pytest.mark.parametrize(
        ("dx", "dy", "expected"),
        [
            (40, 0, set()),
            (41, 0, {"right of"}),
            (-41, 0, {"left of"}),
            (0, 41, {"below"}),
            (0, -41, {"above"}),
            (0, 0, set()),
            (20, 20, set()),
            (200, 200, {"right of", "below"}),
            (-200, -200, {"left of", "above"}),
            # Divided by the whole offset, not by what is left of it: 0.49 here, 0.71 the other way.
            (66, 66, set()),
        ],
    )
    def test_shift(self, dx: int, dy: int, expected: set[str]) -> None:
        moved = (dx, dy, 100.0 + dx, 100.0 + dy)
        assert relation(moved, self.BASE) == expected

    def test_agrees_with_the_rule_that_corpus_and_prompts_use(self) -> None:
        rng = np.random.default_rng(3)
        for boxes in rng.integers(0, 64, (500, 2, 2, 2)):
            a, b = (tuple(map(float, np.sort(box, axis=0).reshape(4))) for box in boxes)
            assert set(relations(a, b)) == relation(a, b)


class TestKeep:
    def test_thresholds_are_strict_and_higher_for_counting(self) -> None:
        detections = [found("circle", score=s) for s in (0.3, 0.31, 0.9, 0.91)]
        assert [d.score for d in keep_detections(detections, "colors")["circle"]] == [0.91, 0.9, 0.31]
        assert [d.score for d in keep_detections(detections, "counting")["circle"]] == [0.91]

    def test_at_most_sixteen_of_a_class(self) -> None:
        detections = [found("circle", score=0.5 + k / 100) for k in range(20)] + [found("cross")]
        kept = keep_detections(detections, "colors")
        assert [d.score for d in kept["circle"]] == [0.5 + k / 100 for k in range(19, 3, -1)]
        assert len(kept["cross"]) == 1

    def test_identical_boxes_stay_unless_suppression_is_on(self) -> None:
        twins = [found("circle", score=0.8), found("circle", score=0.7)]
        assert len(keep_detections(twins, "colors")["circle"]) == 2
        assert len(keep_detections(twins, "colors", GenEvalRules(overlap_threshold=0.9))["circle"]) == 1

    def test_suppression_counts_pixels_inclusively(self) -> None:
        assert box_iou_inclusive((0, 0, 9, 9), (0, 0, 9, 4)) == pytest.approx(0.5)
        assert box_iou_inclusive((0, 0, 1, 1), (5, 5, 6, 6)) == 0


class TestEvaluate:
    def test_too_few(self) -> None:
        verdict = evaluate_image([found("circle")], row(clause("circle", 2)))
        assert not verdict.correct
        assert verdict.clauses[0].failed == "count"
        assert verdict.reasons == ["expected circle >= 2, found 1"]

    def test_more_than_required_is_fine_without_exclude(self) -> None:
        assert evaluate_image([found("circle")] * 3, row(clause("circle", 2))).correct

    def test_only_the_most_confident_need_the_colour(self) -> None:
        metadata = row(clause("circle", color="red"))
        sure_red = [found("circle", color="red", score=0.9), found("circle", color="blue", score=0.8)]
        sure_blue = [found("circle", color="red", score=0.8), found("circle", color="blue", score=0.9)]
        assert evaluate_image(sure_red, metadata).correct
        verdict = evaluate_image(sure_blue, metadata)
        assert verdict.clauses[0].failed == "color"

    def test_every_counted_one_must_have_the_colour(self) -> None:
        metadata = row(clause("circle", 2, color="red"))
        pair = [found("circle", color="red"), found("circle", color="blue")]
        assert not evaluate_image(pair, metadata).correct
        assert evaluate_image([pair[0], pair[0]], metadata).correct

    def test_position(self) -> None:
        metadata = parse_prompt("a photo of a cross left of a circle")
        assert evaluate_image([found("cross", LEFT), found("circle", RIGHT)], metadata).correct
        swapped = evaluate_image([found("cross", RIGHT), found("circle", LEFT)], metadata)
        assert [c.failed for c in swapped.clauses] == [None, "position"]

    def test_position_holds_for_every_pair(self) -> None:
        metadata = row(clause("circle", 2), clause("cross", position=["left of", 0]))
        far, near = found("circle", RIGHT), found("circle", LEFT)
        assert evaluate_image([far, far, found("cross", LEFT)], metadata).correct
        assert not evaluate_image([far, near, found("cross", LEFT)], metadata).correct

    def test_no_target_if_its_own_clause_failed(self) -> None:
        metadata = row(clause("circle", color="red"), clause("cross", position=["left of", 0]))
        detections = [found("circle", RIGHT, color="blue"), found("cross", LEFT)]
        verdict = evaluate_image(detections, metadata)
        assert [c.failed for c in verdict.clauses] == ["color", "position"]
        assert verdict.reasons[1].startswith("no target")

    def test_position_is_not_judged_where_the_colour_failed(self) -> None:
        metadata = row(clause("circle"), clause("cross", color="red", position=["left of", 0]))
        detections = [found("circle", LEFT), found("cross", RIGHT, color="blue")]
        assert [c.failed for c in evaluate_image(detections, metadata).clauses] == [None, "color"]

    def test_later_clauses_are_judged_after_a_failure(self) -> None:
        verdict = evaluate_image(
            [], row(clause("circle"), clause("cross"), exclude=({"class": "x", "count": 1},))
        )
        assert [c.failed for c in verdict.clauses] == ["count", "count", None]

    def test_exclude(self) -> None:
        metadata = counting(2, "circle")
        two, three = [found("circle")] * 2, [found("circle")] * 3
        assert evaluate_image(two, metadata).correct
        assert evaluate_image(three, metadata).clauses[-1].kind == "exclude"
        assert not evaluate_image(three, metadata).correct

    def test_counting_drops_what_the_detector_doubts(self) -> None:
        detections = [found("circle"), found("circle"), found("circle", score=0.9)]
        assert evaluate_image(detections, counting(2, "circle")).correct

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ({"prompt": "p", "tag": "colors"}, "include"),
            (row({"class": "circle"}), r"include\[0\]"),
            (row(clause("a"), clause("b", position=["left of", 1])), r"include\[1\]"),
            (row(clause("a"), clause("b", position=["beside", 0])), "beside"),
        ],
    )
    def test_bad_metadata_is_named(self, metadata: dict, message: str) -> None:
        with pytest.raises(MetadataError, match=message):
            evaluate_image([], metadata)
