"""Judges, or draws, and kills itself with SIGKILL after so many pictures. For `test_judging`.

python -m tests.got_core.evaluate.geneval.killed judge|draw HOME PICTURES
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.config import GenEvalConfig
from got_core.evaluate.geneval.detections import Asked, Found
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.geneval.scene_reader import SceneReader
from got_core.planning.geneval import GenEvalRules
from got_core.scenes.world import NARROW
from got_core.storage import Storage

BENCHMARK = GenEval(config=GenEvalConfig(images_per_prompt=2, bootstrap=20, batch_size=2))


class Logged(SceneReader):
    """Notes what it is asked, and ends the process after so many pictures."""

    batch_size = 2

    def __init__(self, log: Path, most: int = 10_000) -> None:
        super().__init__(NARROW, EvaluateConfig(self_test=6))
        self.log, self.most = log, most

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        found = super().detect(pictures, rules)
        with self.log.open("a") as file:
            file.writelines(f"{one.sample.id}\n" for one in pictures)
        self.most -= len(pictures)
        if self.most < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def judge(home: Path, most: int = 10_000) -> Any:
    """Verdicts on the folder `pictures`."""
    samples = BENCHMARK.read(home / "list.jsonl")
    pictures = BENCHMARK.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
    detector = Logged(home / "judged.log", most)
    return BENCHMARK.judge(samples, pictures, detector, store=Storage(f"file://{home / 'store'}"))


def draw(home: Path, most: int = 10_000) -> tuple[Samples, int]:
    """Pictures of a tiny pipeline in the folder `drawn`; how many were drawn."""
    from tests.got_core.tiny_pipeline import tiny_pipeline

    def killing(done: int, total: int) -> None:
        if done > most:
            os.kill(os.getpid(), signal.SIGKILL)

    samples = BENCHMARK.read(home / "list.jsonl")
    drawn = BENCHMARK.write_layout(
        samples,
        tiny_pipeline(),
        Storage(f"file://{home / 'drawn'}"),
        sampler={"num_inference_steps": 1, "max_new_tokens": 4},
        weights_hash="w",
        progress=killing,
    )
    return samples, drawn


if __name__ == "__main__":
    {"judge": judge, "draw": draw}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
