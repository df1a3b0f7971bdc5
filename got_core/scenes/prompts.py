"""GenEval's six prompt styles over scenes: writing, reading, and the benchmark's prompt list.

Templates and metadata fields are those of GenEval's own generator. Whether a picture satisfies a prompt is
the evaluator's business, not decided here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from got_core.scenes.config import TASKS
from got_core.scenes.heldout import Placed, held_out
from got_core.scenes.world import OPPOSITE, PLURALS, RELATIONS, RGB, World, relations

NUMBERS: dict[int, str] = {2: "two", 3: "three", 4: "four"}
_COUNTS = {word: number for number, word in NUMBERS.items()}
_SINGULAR = {plural: shape for shape, plural in PLURALS.items()}


def article(phrase: str) -> str:
    """The phrase with `a` or `an`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


# ---------------------------------------------------------------- metadata rows, one writer per task


def single_object(shape: str) -> dict[str, Any]:
    return _row("single_object", article(shape), [_clause(shape)])


def two_object(a: str, b: str) -> dict[str, Any]:
    return _row("two_object", f"{article(a)} and {article(b)}", [_clause(a), _clause(b)])


def counting(count: int, shape: str) -> dict[str, Any]:
    row = _row("counting", f"{NUMBERS[count]} {PLURALS[shape]}", [_clause(shape, count)])
    return row | {"exclude": [_clause(shape, count + 1)]}


def colors(color: str, shape: str) -> dict[str, Any]:
    return _row("colors", article(f"{color} {shape}"), [_clause(shape) | {"color": color}])


def position(shape: str, relation: str, target: str) -> dict[str, Any]:
    include = [_clause(target), _clause(shape) | {"position": [relation, 0]}]
    return _row("position", f"{article(shape)} {relation} {article(target)}", include)


def color_attr(color_a: str, a: str, color_b: str, b: str) -> dict[str, Any]:
    include = [_clause(a) | {"color": color_a}, _clause(b) | {"color": color_b}]
    return _row("color_attr", f"{article(f'{color_a} {a}')} and {article(f'{color_b} {b}')}", include)


def _row(tag: str, text: str, include: list[dict[str, Any]]) -> dict[str, Any]:
    return {"tag": tag, "include": include, "prompt": f"a photo of {text}"}


def _clause(shape: str, count: int = 1) -> dict[str, Any]:
    return {"class": shape, "count": count}


# ---------------------------------------------------------------- which prompts describe a scene


def applicable_prompts(objects: Sequence[Placed]) -> list[tuple[str, str]]:
    """Every (task, prompt) that is true of the objects, in a fixed order.

    A scene of one object gives single_object and colors; of one repeated shape, counting; of two shapes,
    two_object, color_attr (colours differ) and position (exactly one of GenEval's relations holds), each in
    both orders. Mixed scenes of more objects give the counting prompts of repeated shapes and the pair
    prompts of unique ones.
    """
    counts = Counter(item.shape for item in objects)
    if len(objects) == 1:
        only = objects[0]
        rows = [single_object(only.shape), colors(only.color, only.shape)]
    else:
        rows = [counting(n, shape) for shape, n in counts.items() if n in NUMBERS]
        unique = [item for item in objects if counts[item.shape] == 1]
        for a, b in combinations(unique, 2):
            rows += _pair_rows(a, b) + _pair_rows(b, a)
    return [(row["tag"], row["prompt"]) for row in rows]


def _pair_rows(a: Placed, b: Placed) -> list[dict[str, Any]]:
    rows = [two_object(a.shape, b.shape)]
    if a.color != b.color:
        rows.append(color_attr(a.color, a.shape, b.color, b.shape))
    holds = relations(a.box, b.box)
    if len(holds) == 1:
        rows.append(position(a.shape, holds[0], b.shape))
    return rows


# ---------------------------------------------------------------- reading


def _alternatives(words: Sequence[str]) -> str:
    return "|".join(map(re.escape, words))


_THING = rf"an? (?:({_alternatives(tuple(RGB))}) )?({_alternatives(tuple(PLURALS))})"
_COUNTED = re.compile(rf"a photo of ({_alternatives(tuple(_COUNTS))}) ({_alternatives(tuple(_SINGULAR))})")
_PAIR = re.compile(rf"a photo of {_THING}(?: (and|{_alternatives(RELATIONS)}) {_THING})?")


def parse_prompt(text: str) -> dict[str, Any]:
    """GenEval metadata (tag, include, exclude?, prompt) of a prompt in one of the six styles.

    Raises ValueError, naming the styles, for anything else.
    """
    prompt = " ".join(text.strip().rstrip(".").lower().split())
    if counted := _COUNTED.fullmatch(prompt):
        return counting(_COUNTS[counted[1]], _SINGULAR[counted[2]])
    pair = _PAIR.fullmatch(prompt)
    row = _parse_pair(*pair.groups()) if pair else None
    if row is None:
        raise ValueError(
            f"not a scene prompt: {text!r}. Understood are 'a photo of a circle', 'a photo of a red circle', "
            "'a photo of three circles', 'a photo of a circle and a square', "
            "'a photo of a circle left of a square', "
            f"'a photo of a red circle and a blue square' with shapes {', '.join(PLURALS)}"
        )
    return row


def _parse_pair(
    color_a: str | None, a: str, joint: str | None, color_b: str | None, b: str | None
) -> dict[str, Any] | None:
    if joint is None or b is None:
        return colors(color_a, a) if color_a else single_object(a)
    if joint == "and" and color_a and color_b:
        return color_attr(color_a, a, color_b, b)
    if color_a or color_b:
        return None
    return two_object(a, b) if joint == "and" else position(a, joint, b)


# ---------------------------------------------------------------- the benchmark's list


def benchmark_prompts(world: World, per_task: int, seed: int) -> list[dict[str, Any]]:
    """GenEval metadata rows, `per_task` a task in the order of TASKS, each with its own `seed`.

    two_object, position and color_attr ask for held-out combinations only. A task with fewer distinct
    prompts than `per_task` repeats them evenly with new seeds. Raises ValueError if a task has no prompt in
    this world.
    """
    import numpy as np

    rng = np.random.default_rng([seed, 0x9E4E])
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        distinct = _task_rows(task, world)
        if not distinct:
            raise ValueError(f"the world has no {task} prompt: it needs more shapes, colours or objects")
        order: list[int] = []
        while len(order) < per_task:
            order += rng.permutation(len(distinct)).tolist()
        rows += [distinct[k] for k in order[:per_task]]
    # below 2**31, and never the same for two rows: picture seeds are then unseen and unlike
    seeds = rng.choice(2**31 - 1, size=len(rows), replace=False).tolist()
    return [row | {"seed": int(value)} for row, value in zip(rows, seeds, strict=True)]


def _task_rows(task: str, world: World) -> list[dict[str, Any]]:
    hidden = held_out(world)
    if task == "single_object":
        return [single_object(shape) for shape in world.shapes]
    if task == "colors":
        return [colors(color, shape) for color in world.colors for shape in world.shapes]
    if task == "counting":
        return [counting(n, shape) for n in NUMBERS if n <= world.max_objects for shape in world.shapes]
    if task == "two_object":
        return [two_object(*pair) for a, b in sorted(hidden.shape_pairs) for pair in ((a, b), (b, a))]
    if task == "position":
        facts = [f for a, r, b in sorted(hidden.positions) for f in ((a, r, b), (b, OPPOSITE[r], a))]
        return [position(*fact) for fact in facts]
    ordered = [pair for a, b in sorted(hidden.color_pairs) for pair in ((a, b), (b, a))]
    return [color_attr(*a, *b) for a, b in ordered]
