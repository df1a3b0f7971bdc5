"""A GenEval detector on workers of a Ray cluster.

Belongs here: a `Detector` spread over workers. Not here: a detector, or the workers themselves
(`evaluate.ray_workers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from got_core.evaluate.geneval.detections import Asked, Detector, DetectorRecord, Found
from got_core.evaluate.ray_workers import OnWorkers, Place, RayWorkers, on_device
from got_core.planning.geneval import GenEvalRules


class RayDetector(OnWorkers["_Tried"]):
    """Workers on Ray, each with a detector; between `with` and its end.

    They read the pictures themselves, from the storage that these are in, and each tries its detector before
    it finds anything: some have been weak on one kind of GPU and well on another.

        def load(device: str) -> Mask2Former:
            return Mask2Former(Path("mask2former"), ClipColours(Path("clip"), device=device), device=device)

        with RayDetector(load, workers=2) as detector:
            benchmark.judge(samples, pictures, detector, store=storage)

    Args:
        load: called in each worker with `device`; its folders are such that all machines see.
        workers, device, address, restarts: see `RayWorkers`.
    """

    def __init__(
        self,
        load: Callable[..., Detector],
        *,
        workers: int | None = None,
        device: str = "auto",
        address: str | None = None,
        restarts: int = 20,
    ) -> None:
        self._pool = RayWorkers(
            partial(_load, load),
            what="detecting",
            workers=workers,
            device=device,
            address=address,
            restarts=restarts,
        )
        self._classes: set[str] = set()

    @property
    def keeps(self) -> bool:
        """See `Detector`."""
        return self._known[0]

    @property
    def batch_size(self) -> int:
        """See `Detector`."""
        return self._known[1]

    @property
    def record(self) -> DetectorRecord:
        """See `Detector`."""
        return self._known[2]

    @cached_property
    def _known(self) -> tuple[bool, int, DetectorRecord]:
        return self._pool.ask(_known)

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """See `Detector`; now in one worker, in each other one before its first pictures."""
        self._classes = set(classes)
        self._pool.ask(partial(_check, classes=self._classes, rules=rules))

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        """See `Detector`."""
        return [one for _, found in self.detect_each([pictures], rules) for one in found]

    def detect_each(
        self, batches: Iterable[Sequence[Asked]], rules: GenEvalRules
    ) -> Iterator[tuple[Sequence[Asked], list[Found]]]:
        """What is in the pictures of each batch, in any order."""
        return self._pool.results(batches, partial(_detect, classes=self._classes, rules=rules))


class _Tried:
    """A detector, and for which classes and rules it is known to work here."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._tried: set[tuple[frozenset[str], GenEvalRules]] = set()

    def check(self, classes: set[str], rules: GenEvalRules) -> None:
        """Try it once."""
        known = (frozenset(classes), rules)
        if known not in self._tried:
            self.detector.check(classes, rules)
            self._tried.add(known)


def _load(load: Callable[..., Detector], place: Place) -> _Tried:
    return _Tried(on_device(load, place))


def _known(tried: _Tried) -> tuple[bool, int, DetectorRecord]:
    return tried.detector.keeps, tried.detector.batch_size, tried.detector.record


def _check(tried: _Tried, *, classes: set[str], rules: GenEvalRules) -> None:
    tried.check(classes, rules)


def _detect(
    tried: _Tried, pictures: Sequence[Asked], again: bool, *, classes: set[str], rules: GenEvalRules
) -> list[Found]:
    if classes:
        tried.check(classes, rules)
    return tried.detector.detect(pictures, rules)
