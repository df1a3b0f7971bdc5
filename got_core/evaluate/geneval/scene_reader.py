"""The scene reader as a GenEval detector, for pictures of rendered scenes.

Belongs here: its record and what it finds. Not here: reading pixels (`scenes.reader`), or its self-test
(`evaluate.detector`).
"""

from __future__ import annotations

from collections.abc import Sequence

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import DetectorError, check_detector, detect, detector_record
from got_core.evaluate.geneval.detections import Asked, DetectorRecord, Found
from got_core.planning.geneval import GenEvalRules
from got_core.scenes.world import World


class SceneReader:
    """Finds the shapes of a world."""

    keeps = True
    batch_size = 16

    def __init__(self, world: World, config: EvaluateConfig | None = None) -> None:
        self.world, self.config = world, config or EvaluateConfig()

    @property
    def record(self) -> DetectorRecord:
        """Name, version and limits."""
        return DetectorRecord(
            suffix="scene-reader", detector=detector_record(), networks={}, prompt_texts={}, resize={}
        )

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """Raises DetectorError where it misjudges known scenes, or does not know a class."""
        if unknown := sorted(classes - set(self.world.shapes)):
            raise DetectorError(
                f"the scene reader does not know {', '.join(unknown[:5])}: it would find none in any "
                f"picture; it knows {', '.join(self.world.shapes)}"
            )
        check_detector(self.world, self.config)

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        """What is in pictures."""
        return [Found(detections=tuple(detect(asked.image()))) for asked in pictures]
