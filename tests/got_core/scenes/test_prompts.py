from __future__ import annotations

from collections import Counter

import pytest

from got_core.scenes.config import TASKS
from got_core.scenes.heldout import (
    SHARE,
    canonical_colors,
    canonical_position,
    held_out,
    is_held_out,
)
from got_core.scenes.prompts import applicable_prompts, benchmark_prompts, parse_prompt
from got_core.scenes.world import FULL, NARROW, RGB, SceneObject, World


def _object(color: str, shape: str, x: int, y: int) -> SceneObject:
    return SceneObject(shape, color, x, y, x + 16, y + 16, RGB[color])


def test_one_object_gives_the_single_and_the_colour_prompt() -> None:
    assert applicable_prompts([_object("orange", "circle", 5, 5)]) == [
        ("single_object", "a photo of a circle"),
        ("colors", "a photo of an orange circle"),
    ]


def test_two_objects_give_pair_prompts_in_both_orders() -> None:
    pair = [_object("red", "circle", 4, 20), _object("blue", "cross", 40, 20)]
    assert dict.fromkeys(applicable_prompts(pair)) == dict.fromkeys(
        [
            ("two_object", "a photo of a circle and a cross"),
            ("color_attr", "a photo of a red circle and a blue cross"),
            ("position", "a photo of a circle left of a cross"),
            ("two_object", "a photo of a cross and a circle"),
            ("color_attr", "a photo of a blue cross and a red circle"),
            ("position", "a photo of a cross right of a circle"),
        ]
    )


def test_diagonals_give_no_position_and_equal_colours_no_attribute_prompt() -> None:
    pair = [_object("red", "circle", 4, 4), _object("red", "cross", 40, 40)]
    assert {tag for tag, _ in applicable_prompts(pair)} == {"two_object"}


def test_repeated_shapes_are_counted() -> None:
    three = [_object("red", "cross", 4, 4), _object("blue", "cross", 40, 4), _object("red", "cross", 40, 40)]
    assert applicable_prompts(three) == [("counting", "a photo of three crosses")]
    mixed = [*three[:2], _object("green", "circle", 40, 40)]
    assert applicable_prompts(mixed) == [("counting", "a photo of two crosses")]


@pytest.mark.parametrize(
    ("prompt", "row"),
    [
        ("a photo of a circle", {"tag": "single_object", "include": [{"class": "circle", "count": 1}]}),
        (
            "A photo of  three crosses.",
            {
                "tag": "counting",
                "include": [{"class": "cross", "count": 3}],
                "exclude": [{"class": "cross", "count": 4}],
            },
        ),
        (
            "a photo of an orange star",
            {"tag": "colors", "include": [{"class": "star", "count": 1, "color": "orange"}]},
        ),
        (
            "a photo of a circle left of a square",
            {
                "tag": "position",
                "include": [
                    {"class": "square", "count": 1},
                    {"class": "circle", "count": 1, "position": ["left of", 0]},
                ],
            },
        ),
        (
            "a photo of a red circle and a blue square",
            {
                "tag": "color_attr",
                "include": [
                    {"class": "circle", "count": 1, "color": "red"},
                    {"class": "square", "count": 1, "color": "blue"},
                ],
            },
        ),
    ],
)
def test_prompts_parse_to_genevals_metadata(prompt: str, row: dict) -> None:
    parsed = parse_prompt(prompt)
    assert {key: parsed[key] for key in row} == row
    assert ("exclude" in parsed) == ("exclude" in row)


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of a dog",
        "a photo of five circles",
        "a photo of a red circle left of a square",
        "a photo of a red circle and a square",
        "two circles",
        "",
    ],
)
def test_other_prompts_are_refused_with_the_styles_that_are_understood(prompt: str) -> None:
    with pytest.raises(ValueError, match="a photo of three circles"):
        parse_prompt(prompt)


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_benchmark_rows(world: World) -> None:
    rows = benchmark_prompts(world, 60, seed=5)
    assert rows == benchmark_prompts(world, 60, seed=5) != benchmark_prompts(world, 60, seed=6)
    assert Counter(row["tag"] for row in rows) == dict.fromkeys(TASKS, 60)
    assert len({row["seed"] for row in rows}) == len(rows)
    for row in rows:
        assert parse_prompt(row["prompt"]) == {key: row[key] for key in row if key != "seed"}
    for task in TASKS:
        uses = Counter(row["prompt"] for row in rows if row["tag"] == task).values()
        assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
def test_benchmark_asks_for_held_out_combinations_only(world: World) -> None:
    hidden = held_out(world)
    for row in benchmark_prompts(world, 80, seed=1):
        first, last = row["include"][0], row["include"][-1]
        if row["tag"] == "two_object":
            assert tuple(sorted((first["class"], last["class"]))) in hidden.shape_pairs
        if row["tag"] == "position":
            fact = canonical_position(last["class"], last["position"][0], first["class"])
            assert fact in hidden.positions
        if row["tag"] == "color_attr":
            pair = canonical_colors((first["color"], first["class"]), (last["color"], last["class"]))
            assert pair in hidden.color_pairs


def test_held_out_shares_and_that_every_set_is_known_to_the_rule() -> None:
    hidden = held_out(FULL)
    assert len(hidden.shape_pairs) == round(15 * SHARE)
    for a, relation, b in hidden.positions:
        x, y = (40, 4) if relation == "left of" else (4, 40)
        scene = [_object("red", a, 4, 4), _object("red", b, x, y)]
        assert is_held_out(scene, FULL) and is_held_out(scene[::-1], FULL)
    for (color_a, a), (color_b, b) in hidden.color_pairs:
        assert is_held_out([_object(color_a, a, 4, 4), _object(color_b, b, 5, 5)], FULL)
    for a, b in hidden.shape_pairs:
        assert is_held_out([_object("red", a, 4, 4), _object("red", b, 5, 5)], FULL)
        assert not is_held_out([_object("red", a, 4, 4), _object("red", a, 40, 4)], FULL)


def test_held_out_sets_are_fixed() -> None:
    # a change here makes every earlier corpus, model and score incomparable
    assert held_out(NARROW).shape_pairs == {("circle", "square")}
    assert held_out(NARROW).positions == {
        ("triangle", "above", "square"),
        ("circle", "left of", "cross"),
        ("square", "above", "triangle"),
    }
    assert len(held_out(NARROW).color_pairs) == 25


def test_a_world_without_prompts_for_a_task_says_so() -> None:
    with pytest.raises(ValueError, match="no counting prompt"):
        benchmark_prompts(World(max_objects=1), 3, seed=0)
