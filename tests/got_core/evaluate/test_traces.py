"""Levels between edited pictures and true ones, on pictures with known differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from got_core.chain.grammar import Chain
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import detect
from got_core.evaluate.edit_cases import EditCase
from got_core.evaluate.edit_rules import EditRules, expected_objects
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.samples import Drawn
from got_core.evaluate.scores import TRACE_LEFT
from got_core.evaluate.trace_scores import COLUMNS, trace_figures, worst_traces
from got_core.evaluate.traces import TraceRules, Traces, shown_places, touched, traces_of
from got_core.planning.geneval import Detection
from got_core.scenes.edits import apply, parse_instruction
from got_core.scenes.render import render
from got_core.scenes.world import NARROW, RGB, Background, Scene, SceneObject

RULES = TraceRules()
CIRCLE = SceneObject("circle", "red", 4, 30, 22, 48, rgb=RGB["red"])
SQUARE = SceneObject("square", "blue", 40, 30, 58, 48, rgb=RGB["blue"])
GREY = Background(tone="grey", level=150)
SCENE = Scene((CIRCLE, SQUARE), GREY, 64)
REMOVE = "remove the red circle"
BACKGROUNDS = {
    "plain": GREY,
    "gradient": replace(GREY, kind="gradient", slope=(14.0, -9.0)),
    "noise": replace(GREY, kind="noise", noise=6.0, noise_seed=7),
}


def case(instruction: str, source: Scene = SCENE) -> EditCase:
    op = parse_instruction(instruction)
    return EditCase("remove", source, apply(source, op), op.intent.steps, instruction, 0)


def measured(one: EditCase, after: Image.Image, planned: tuple[Detection, ...] = ()) -> Traces:
    expected = expected_objects(one.source, one.ops)
    places = shown_places(detect(after), planned, expected, EditRules(), one.source.size)
    return traces_of(one.source, one.target, expected, places, after, RULES)


def lighter(picture: Image.Image, where: np.ndarray, levels: float) -> Image.Image:
    """With so many levels more where `where`, a share of each pixel, says so."""
    pixels = np.asarray(picture, np.float32) + levels * where[..., None]
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("kind", ["plain", "gradient"])
@pytest.mark.parametrize(
    "instruction",
    [
        REMOVE,
        "add a green cross at the top",
        "change the red circle to green",
        "replace the blue square with a green cross",
        "move the red circle to the bottom left, then remove the blue square",
    ],
)
def test_a_true_picture_is_not_a_level_away(kind: str, instruction: str) -> None:
    one = case(instruction, replace(SCENE, background=BACKGROUNDS[kind]))
    found = measured(one, render(one.target))
    assert (found.trace or 0, found.rest, found.edges) == (0, 0, 0)
    assert (found.trace is None) == instruction.startswith(("add", "change"))


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_a_faint_ghost_of_the_whole_object_counts_in_full(kind: str) -> None:
    """Ten levels on everything that it covered are a trace of ten, whatever the background and the shape."""
    for shape in ("circle", "cross", "triangle"):
        old = replace(CIRCLE, shape=shape)
        one = case(
            f"remove the red {shape}", replace(SCENE, objects=(old, SQUARE), background=BACKGROUNDS[kind])
        )
        ghost = touched([old], 64).astype(np.float32)
        found = measured(one, lighter(render(one.target), ghost, 10))
        assert found.trace == pytest.approx(10, abs=0.7 if kind == "noise" else 0.01)
        assert found.rest < 1


def test_half_a_ghost_is_half_a_trace_and_a_copy_is_all_of_it() -> None:
    one = case(REMOVE)
    half = touched([CIRCLE], 64).astype(np.float32)
    half[:, :13] = 0
    assert measured(one, lighter(render(one.target), half, 10)).trace == pytest.approx(5, abs=0.01)
    copy = measured(one, render(SCENE))
    assert copy.trace is not None and copy.trace > 80 and copy.rest == 0


def test_grain_of_any_kind_is_as_right_as_none() -> None:
    noisy = replace(SCENE, background=BACKGROUNDS["noise"])
    one = case(REMOVE, noisy)
    other = replace(one.target, background=replace(BACKGROUNDS["noise"], noise_seed=8))
    smooth = replace(one.target, background=replace(BACKGROUNDS["noise"], noise=0.0))
    for scene, most in ((one.target, 1.7), (other, 1.7), (smooth, 0)):
        found = measured(one, render(scene))
        assert found.trace is not None and found.trace <= most and found.rest <= most
    raw = np.abs(np.asarray(render(other), np.float32) - np.asarray(render(smooth), np.float32))
    assert raw[touched([CIRCLE], 64)].mean() > 4, "grain itself is more than what counts as a trace"


def test_shifted_edges_are_no_trace_but_edges() -> None:
    one = case(REMOVE)
    moved = replace(one.target, objects=(replace(SQUARE, x1=41, x2=59),))
    found = measured(one, render(moved))
    assert found.trace == 0 and found.edges is not None
    assert found.edges > 10 > found.rest > 0
    # two columns of the square's height differ, each by the step from blue to grey
    step = np.abs(np.asarray(RGB["blue"]) - 150).mean()
    left = touched([CIRCLE], 64).sum()
    assert found.rest == pytest.approx(2 * 18 * step / (64 * 64 - left))


def test_what_words_leave_free_is_taken_from_the_picture() -> None:
    """Any place that fits the words, and any shade of the colour's name; but no other shade."""
    one = case("add a green cross at the top")
    assert [item.box for item in one.target.objects[2:]] != [(24, 3, 42, 21)]
    green = np.asarray(RGB["green"])

    def shown(shade: int, box: tuple[int, int, int, int] = (24, 3, 42, 21)) -> Traces:
        rgb = tuple(int(v) for v in green + shade)
        cross = SceneObject("cross", "green", *box, rgb=rgb)  # type: ignore[arg-type]
        return measured(one, render(replace(SCENE, objects=(*SCENE.objects, cross))))

    assert shown(0).rest == shown(8).rest == 0
    assert shown(20).rest > 0
    assert shown(0, (22, 44, 40, 62)).rest > 10 * shown(20).rest, "a place that does not fit is no true one"


def test_a_planned_place_stands_for_an_object_that_is_not_found() -> None:
    one = case("add a green cross at the top")
    place = Detection("cross", 1.0, (24.0, 3.0, 42.0, 21.0), "green")
    smear = render(replace(SCENE, objects=(*SCENE.objects, replace(CIRCLE, x1=24, y1=3, x2=42, y2=21))))
    assert measured(one, smear, (place,)).rest != measured(one, smear).rest
    elsewhere = replace(place, box=(22.0, 44.0, 40.0, 62.0))
    assert measured(one, smear, (elsewhere,)).rest == measured(one, smear).rest


def test_an_object_that_did_not_move_has_its_old_place_to_leave() -> None:
    one = case("move the red circle to the bottom left")
    assert (measured(one, render(SCENE)).trace or 0) > 80
    assert measured(one, render(one.target)).trace == 0


def test_few_pixels_are_no_trace() -> None:
    """A square around a circle of the same box leaves nothing, one pixel less wide a seam."""
    one = case("replace the red circle with a green square")
    assert measured(one, render(one.target)).trace is None


def test_its_picture_frames_what_an_object_has_left() -> None:
    one = case(REMOVE)
    found = measured(one, lighter(render(one.target), touched([CIRCLE], 64).astype(np.float32), 60))
    heat, truth = np.asarray(found.picture()).astype(int), np.asarray(found.truth).astype(int)
    assert heat.shape == truth.shape
    assert heat[39, 4, 2] > heat[39, 4, 0], "a blue frame"
    assert heat[39, 13].sum() > heat[5, 40].sum() + 100, "light where it differs"


class TestVerdicts:
    CONFIG = EvaluateConfig(edit_images=10, edit_steps=1, bootstrap=20)

    @pytest.fixture(scope="class")
    def suite(self) -> EditScenes:
        return EditScenes(NARROW, self.CONFIG)

    @pytest.fixture(scope="class")
    def rows(self, suite: EditScenes) -> list[dict]:
        """True pictures, with a ghost where something was removed: of 6 levels, then of 14."""
        return [suite.judge(number, self.drawn(suite, number)) for number in range(10)]

    def drawn(self, suite: EditScenes, number: int) -> Drawn:
        one = suite.cases[number]
        gone = [item for item in one.source.objects if item not in one.target.objects]
        picture, levels = render(one.target), -6 if number < 5 else -14
        if one.kind == "remove":
            picture = lighter(picture, touched(gone, 64).astype(np.float32), levels)
        return Drawn("x", picture, Chain(()), (), b"")

    def test_an_edit_is_right_up_to_the_limit(self, rows) -> None:
        removed = [row for row in rows if row["task"] == "remove"]
        assert [row["correct"] for row in removed] == [True, False]
        assert [round(row["trace"]) for row in removed] == [6, 14]
        assert removed[1]["failure"] == TRACE_LEFT and "failure" not in removed[0]
        assert removed[1]["reason"] == "what was there before shows by 14.0 levels (at most 10)"
        assert removed[1]["change_found"] and removed[1]["others_kept"], "nothing else is against it"
        others = [row for row in rows if row["task"] != "remove"]
        assert all(row["correct"] and (row["trace"] or 0) == 0 for row in others)

    def test_the_limit_is_part_of_the_protocol(self, suite) -> None:
        strict = EditScenes(NARROW, replace(self.CONFIG, max_trace=5.0))
        assert strict.protocol().digest() != suite.protocol().digest()
        assert strict.protocol().rules["traces"]["most"] == 5
        assert not strict.judge(1, self.drawn(suite, 1))["correct"]

    def test_no_levels_of_what_could_not_be_drawn(self, suite) -> None:
        row = suite.judge(1, replace(self.drawn(suite, 1), fault="its latents hold NaN"))
        assert [row[name] for name in COLUMNS] == [None] * 3
        assert (row["correct"], row["reason"]) == (False, "its latents hold NaN")

    def test_figures_by_kind(self, rows) -> None:
        names = ("task", *COLUMNS)
        frame = pl.DataFrame([{name: row[name] for name in names} for row in rows])
        found = trace_figures(frame)
        assert found["kinds"]["add"]["trace"] is None
        removed = found["kinds"]["remove"]["trace"]
        assert (removed["n"], removed["mean"], removed["median"]) == (2, pytest.approx(10), pytest.approx(10))
        assert found["trace"]["n"] == sum(row["trace"] is not None for row in rows)

    def test_the_largest_traces_of_right_edits_come_first(self, suite, rows) -> None:
        table = [{"index": k, "prompt": "p", "failure": None, **row} for k, row in enumerate(rows)]
        (moved,) = [k for k, row in enumerate(rows[:5]) if row["task"] == "move"]
        table[moved] |= {"failure": "drawn_wrong", "trace": 99.0}
        frame = pl.DataFrame(table, infer_schema_length=None)
        drawn = {k: self.drawn(suite, k) for k in range(10)}
        shown: list[int] = []

        class Watched:
            def traces(self, row, one):
                shown.append(row["index"])
                return suite.traces(row, one)

        assert worst_traces(Watched(), frame, drawn).startswith(b"\x89PNG")
        removed = [k for k, row in enumerate(rows) if row["task"] == "remove"]
        assert shown[:2] == removed[::-1] and shown[-1] == moved
        assert worst_traces(object(), frame, drawn) == b""
