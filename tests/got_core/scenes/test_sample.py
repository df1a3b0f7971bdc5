from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from got_core.scenes.config import KINDS, TASKS
from got_core.scenes.edits import apply, fits_words, parse_instruction, pointed_at
from got_core.scenes.heldout import is_held_out
from got_core.scenes.prompts import applicable_prompts
from got_core.scenes.sample import sample_edit, sample_multi_turn, sample_scene
from got_core.scenes.world import FULL, NARROW, PixelBox, Scene, World


def _gap(a: PixelBox, b: PixelBox) -> int:
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])


def _check_scene(scene: Scene, world: World) -> None:
    for item in scene.objects:
        assert world.margin <= min(item.x1, item.y1)
        assert max(item.x2, item.y2) <= world.size - world.margin
        assert world.min_object <= item.x2 - item.x1 <= world.max_object
    assert all(_gap(a.box, b.box) >= world.gap >= 2 for a, b in combinations(scene.objects, 2))
    assert 1 <= len(scene.objects) <= world.max_objects
    assert not is_held_out(scene.objects, world)


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
@pytest.mark.parametrize("style", TASKS)
def test_scenes_suit_their_style(world: World, style: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        scene = sample_scene(world, rng, style)
        _check_scene(scene, world)
        tags = {tag for tag, _ in applicable_prompts(scene.objects)}
        assert style in tags


@pytest.mark.parametrize("style", ["two_object", "position"])
def test_pairs_have_unlike_colours_where_the_world_says_so(style: str) -> None:
    def pairs(world: World) -> list[bool]:
        rng = np.random.default_rng(7)
        scenes = [sample_scene(world, rng, style).objects for _ in range(60)]
        return [a.color == b.color for a, b in scenes]

    assert any(pairs(NARROW))
    assert not any(pairs(replace(NARROW, unlike_colors=True)))


def test_counting_scenes_show_every_number_in_one_and_in_mixed_colours() -> None:
    rng = np.random.default_rng(1)
    scenes = [sample_scene(FULL, rng, "counting") for _ in range(120)]
    assert {len(scene.objects) for scene in scenes} == {2, 3, 4}
    assert all(len({item.shape for item in scene.objects}) == 1 for scene in scenes)
    one = sum(len({item.color for item in scene.objects}) == 1 for scene in scenes)
    assert 0.35 < one / len(scenes) < 0.75


def test_the_same_seed_gives_the_same_scenes() -> None:
    first = [sample_scene(FULL, np.random.default_rng(3)) for _ in range(2)]
    assert first[0] == first[1] != sample_scene(FULL, np.random.default_rng(4))


def test_styles_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    numbers = Counter(len(sample_scene(NARROW, rng).objects) for _ in range(300))
    assert 60 < numbers[1] < 140  # two of six styles show one object


def test_an_impossible_style_says_so() -> None:
    with pytest.raises(ValueError, match="max_objects of at least 2"):
        sample_scene(World(max_objects=1), np.random.default_rng(0), "counting")
    with pytest.raises(ValueError, match="unknown style 'collage'"):
        sample_scene(NARROW, np.random.default_rng(0), "collage")
    with pytest.raises(ValueError, match="2 unlike names"):
        sample_scene(World(shapes=("circle",)), np.random.default_rng(0), "two_object")


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_edits_change_what_they_say_and_nothing_else(world: World, kind: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(25):
        source, target, op, text = sample_edit(world, rng, kind)
        _check_scene(source, world)
        _check_scene(target, world)
        assert target == apply(source, op) and target.background == source.background
        assert parse_instruction(text) == op.intent
        kept = set(source.objects) & set(target.objects)
        removed, added = set(source.objects) - kept, set(target.objects) - kept
        assert (len(removed), len(added)) == {"add": (0, 1), "remove": (1, 0)}.get(kind, (1, 1))
        if kind != "add":
            assert {f"{item.color} {item.shape}" for item in removed} == {op.phrase}


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_steps_of_a_multi_turn_edit_build_on_each_other_and_undo_nothing(world: World) -> None:
    rng = np.random.default_rng(12)
    lengths: Counter[int] = Counter()
    followed = 0
    for _ in range(60):
        source, target, op, text = sample_multi_turn(world, rng)
        assert parse_instruction(text) == op.intent
        assert target == apply(source, op) and target.background == source.background
        lengths[len(op.steps)] += 1
        scene, placed = source, set()
        for step in op.steps:
            before = {(item.color, item.shape): item for item in scene.objects}
            if step.kind != "add":
                touched = before[step.color, step.shape]
                followed += touched not in source.objects
                assert step.kind not in ("move", "remove") or touched.box not in placed
            scene = apply(scene, step)
            _check_scene(scene, world)
            if step.kind in ("add", "move"):
                placed.add(scene.objects[-1].box if step.kind == "add" else step.box)
    assert set(lengths) == {2, 3} and min(lengths.values()) >= 15
    assert followed >= 10


def test_of_many_places_the_clearest_is_taken() -> None:
    def off_the_mark(draws: int) -> float:
        distances = []
        for k in range(60):
            source, target, op, _ = sample_edit(FULL, np.random.default_rng(k), "add", draws)
            _check_scene(target, FULL)
            new = target.objects[-1]
            assert fits_words(new.box, op, source)
            x, y = pointed_at(source, op, new.x2 - new.x1)
            distances.append(np.hypot((new.x1 + new.x2) / 2 - x, (new.y1 + new.y2) / 2 - y))
        return float(np.mean(distances))

    assert off_the_mark(64) < 0.75 * off_the_mark(1)


def test_the_number_of_steps_can_be_chosen() -> None:
    assert len(sample_multi_turn(FULL, np.random.default_rng(0), 3)[2].steps) == 3


def test_an_impossible_edit_says_so() -> None:
    poor = World(shapes=("circle",), colors=("red",))
    with pytest.raises(ValueError, match="no recolour edit in 2000 tries"):
        sample_edit(poor, np.random.default_rng(0), "recolour")
    with pytest.raises(ValueError, match="no edit of 2 steps in 2000 tries"):
        sample_multi_turn(poor, np.random.default_rng(0), 2)
