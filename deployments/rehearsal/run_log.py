"""What `got run` prints, as it comes: which part is at work, and which processes train.

Belongs here: reading its lines. Not here: starting it, and what is done about a line (``walk``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MADE = re.compile(r"  (?:(?P<shard>[a-z]+-\d+): )?(?P<asset>[a-z0-9_]+)(?:, [a-z0-9_, ]+)? \(")
_WORKER = re.compile(
    r"(?P<stage>\w+): worker (?P<number>\d+) of (?P<count>\d+) is process (?P<pid>\d+) on .*, "
    r"from step (?P<step>\d+)"
)
PARTS = {
    "raw_images": "ingestion",
    "edit_pairs": "ingestion",
    "captions": "annotation to tars",
    "edit_descriptions": "annotation to tars",
    "training_plan": "training plan",
    "taken_down": "manifest and statistics",
    "foundation_models": "published folders",
    "pretrained_model": "pretraining",
    "finetuned_model": "finetuning",
    "published_geneval": "benchmarks",
    "emu_edit_base": "benchmarks",
    "benchmark_report": "scores and registry",
    "registered_model": "scores and registry",
}
"""Parts of a rehearsal by the asset with which each begins."""


@dataclass(frozen=True)
class Worker:
    """A process that trains."""

    stage: str
    number: int
    pid: int
    step: int
    """Where it begins: 0, or the step of the checkpoint that it goes on from."""


@dataclass
class RunLog:
    """Lines so far, seconds by part, and every worker that has said where it is."""

    lines: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    killed: int | None = None
    """Process id of the worker that was killed."""
    clock: Callable[[], float] = time.monotonic
    _part: str = "start of got run"
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._since = self.clock()

    def add(self, line: str) -> None:
        """Take in the next line."""
        self.lines.append(line.rstrip("\n"))
        if (found := _WORKER.search(line)) is not None:
            self.workers.append(
                Worker(found["stage"], int(found["number"]), int(found["pid"]), int(found["step"]))
            )
        elif (made := _MADE.match(line)) is not None and made["asset"] in PARTS:
            self._begin(PARTS[made["asset"]])

    def end(self) -> None:
        """The run is over."""
        self._begin("end")

    def of(self, stage: str) -> list[Worker]:
        """The workers of a stage, in the order in which they began."""
        return [worker for worker in self.workers if worker.stage == stage]

    def _begin(self, part: str) -> None:
        now = self.clock()
        self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now
