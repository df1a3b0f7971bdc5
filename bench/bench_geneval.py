"""GenEval: its rules against another implementation of their description, and scoring saved detections.

`BENCH_ROWS` random pictures (100,000 by default) are judged by both; disagreements have to be 0. Then the
saved detections of a whole run (553 prompts, four pictures each, 100 detections a picture) are read, judged
and scored in one process, beside reading the same file as bare JSON.

python -m bench.bench_geneval
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.geneval_reference import is_right, random_case
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.classes import CLASSES
from got_core.evaluate.geneval.saved import SavedDetections
from got_core.planning.geneval import COLORS, TASKS, evaluate_image

PROMPTS = {**dict.fromkeys(TASKS, 100), "single_object": 80, "two_object": 99, "counting": 80, "colors": 94}
FOUND = 100
"""Detections a picture: what the published detector gives at most."""


def disagreements(count: int, seed: int = 0) -> tuple[int, int]:
    """How many random pictures the two judge differently, and how many are right."""
    rng, unlike, right = np.random.default_rng(seed), 0, 0
    for _ in range(count):
        detections, row = random_case(rng)
        mine = evaluate_image(detections, row).correct
        right += mine
        unlike += mine != is_right(detections, row)
    return unlike, right


def prompt_list(folder: Path) -> Path:
    """As many prompts of each task as the published list has, in its format."""
    rng, path, rows = np.random.default_rng(0), folder / "prompts.jsonl", []
    for task, count in PROMPTS.items():
        for _ in range(count):
            first, second = (str(one) for one in rng.choice(CLASSES, 2, replace=False))
            include: list[dict[str, Any]] = [{"class": first, "count": 1}]
            if task in ("two_object", "position", "color_attr"):
                include.append({"class": second, "count": 1})
            if task in ("colors", "color_attr"):
                include = [one | {"color": str(rng.choice(COLORS))} for one in include]
            if task == "position":
                include[1]["position"] = ["left of", 0]
            rows.append({"tag": task, "include": include, "prompt": f"a photo of a {first}"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def saved_detections(folder: Path) -> Path:
    """A whole run's detections, in the documented format."""
    rng, path = np.random.default_rng(1), folder / "detections.jsonl"
    with path.open("w") as file:
        file.write(json.dumps({"detector": {"name": "random", "version": 1}}) + "\n")
        for prompt in range(sum(PROMPTS.values())):
            for image in range(4):
                boxes = rng.random((FOUND, 4)) * 500
                found = [
                    {
                        "class": CLASSES[int(number)],
                        "score": float(score),
                        "box": [x, y, x + w, y + h],
                        "color": COLORS[int(number) % len(COLORS)],
                    }
                    for number, score, (x, y, w, h) in zip(
                        rng.integers(0, 80, FOUND), rng.random(FOUND), boxes.tolist(), strict=True
                    )
                ]
                row = {"prompt_index": prompt, "image_index": image, "detections": found}
                file.write(json.dumps(row) + "\n")
    return path


def main() -> dict[str, float | str]:
    """Disagreements, and CPU seconds."""
    count = int(os.environ.get("BENCH_ROWS", "100000"))
    unlike, right = disagreements(count)
    with tempfile.TemporaryDirectory() as name:
        prompts, saved, benchmark = prompt_list(Path(name)), saved_detections(Path(name)), GenEval()
        started = time.process_time()
        samples, detector = benchmark.read(prompts), SavedDetections(saved)
        frame = benchmark.judge(samples, None, detector)
        scores = benchmark.scores(frame, protocol=benchmark.protocol(samples, detector))
        scored = time.process_time() - started
        started = time.process_time()
        for line in saved.read_bytes().splitlines():
            json.loads(line)
        bare = time.process_time() - started
        megabytes = saved.stat().st_size / 1e6
    return {
        "random pictures": f"{count}, of which {right} right",
        "disagreements": str(unlike),
        "pictures scored from a file": f"{scores['of']}, {megabytes:.0f} MB",
        "CPU seconds": scored,
        "CPU seconds for its JSON alone": bare,
    }


if __name__ == "__main__":
    for key, value in main().items():
        print(f"{key:<30} {value}")
