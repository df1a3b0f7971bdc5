"""GenEval's rules once more, written from their description alone, and random pictures to try them on.

Belongs here: what `bench_geneval` and tests compare `planning.geneval` with. Arrays of one class at a time
instead of objects; nothing is shared with the library but the type of a detection.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from got_core.planning.geneval import Detection

WORDS = ("dog", "cup", "bench")
HUES = ("red", "blue", "white")
SIDES = ("left of", "right of", "above", "below")


def is_right(detections: list[Detection], row: dict[str, Any]) -> bool:
    """Whether a picture is right, by the published description."""
    least = 0.9 if row["tag"] == "counting" else 0.3
    boxes, hues = {}, {}
    for word in {one.cls for one in detections}:
        of_word = [one for one in detections if one.cls == word]
        scores = np.array([one.score for one in of_word])
        order = np.argsort(scores, kind="stable")[::-1]
        order = order[scores[order] > least][:16]
        boxes[word] = np.array([of_word[k].box for k in order]).reshape(-1, 4)
        hues[word] = [of_word[k].color for k in order]
    groups: list[np.ndarray | None] = []
    for clause in row["include"]:
        groups.append(_group(clause, boxes, hues, groups))
    crowded = [c for c in row.get("exclude", []) if len(boxes.get(c["class"], ())) >= c["count"]]
    return not crowded and all(group is not None for group in groups)


def _group(
    clause: dict[str, Any], boxes: dict[str, np.ndarray], hues: dict[str, list[Any]], groups: list[Any]
) -> np.ndarray | None:
    """The boxes that a clause is about, if it holds."""
    word, count = clause["class"], clause["count"]
    mine = boxes.get(word, np.zeros((0, 4)))[:count]
    if len(mine) < count:
        return None
    if "color" in clause and hues[word][:count].count(clause["color"]) != count:
        return None
    if "position" in clause:
        side, target = clause["position"]
        others = groups[target]
        if others is None or not all(_lies(a, b, side) for a in mine for b in others):
            return None
    return mine


def _lies(a: np.ndarray, b: np.ndarray, side: str) -> bool:
    """Whether box a lies on a side of box b."""
    (a_low, a_high), (b_low, b_high) = a.reshape(2, 2), b.reshape(2, 2)
    apart = (a_low + a_high) / 2 - (b_low + b_high) / 2
    sizes = np.abs(a_high - a_low) + np.abs(b_high - b_low)
    left = np.sign(apart) * np.clip(np.abs(apart) - 0.1 * sizes, 0, None)
    if (np.abs(left) < 1e-3).all():
        return False
    x, y = left / np.sqrt((apart**2).sum())
    return bool({"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}[side])


# ---------------------------------------------------------------- random pictures


def random_case(rng: np.random.Generator) -> tuple[list[Detection], dict[str, Any]]:
    """Detections and a prompt's row that they may or may not fit; scores and boxes lie on grids, so that ties
    and limits occur."""
    crowd = int(rng.choice([4, 9, 60], p=[0.3, 0.6, 0.1]))
    detections = [_random_detection(rng) for _ in range(int(rng.integers(1, crowd + 1)))]
    include: list[dict[str, Any]] = []
    for number in range(int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2]))):
        clause: dict[str, Any] = {
            "class": str(rng.choice(WORDS)),
            "count": int(rng.choice([1, 1, 1, 1, 2, 4])),
        }
        if rng.random() < 0.3:
            clause["color"] = str(rng.choice(HUES))
        if number and rng.random() < 0.7:
            clause["position"] = [str(rng.choice(SIDES)), int(rng.integers(0, number))]
        include.append(clause)
    tag = "counting" if rng.random() < 0.2 else "position"
    row: dict[str, Any] = {"tag": tag, "prompt": "p", "include": include}
    if rng.random() < 0.3:
        row["exclude"] = [{"class": str(rng.choice(WORDS)), "count": int(rng.choice([1, 2, 5, 17]))}]
    return detections, row


def _random_detection(rng: np.random.Generator) -> Detection:
    x, y = (10.0 * rng.integers(0, 40, 2)).tolist()
    w, h = (10.0 * rng.integers(1, 20, 2)).tolist()
    score = float(
        rng.choice([rng.random(), 0.3, 0.9, 0.31, 0.91, 0.95], p=[0.5, 0.05, 0.1, 0.05, 0.15, 0.15])
    )
    word = str(rng.choice(WORDS, p=[0.5, 0.4, 0.1]))
    return Detection(word, score, (x, y, x + w, y + h), str(rng.choice(HUES, p=[0.6, 0.3, 0.1])))
