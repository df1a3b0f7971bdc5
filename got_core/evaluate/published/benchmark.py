"""What a published benchmark is to commands and assets, before it is opened and after.

Belongs here: the interface. Not here: which benchmarks there are (`registry`), how one is opened (`pictures`,
`edits`).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.drawers.opening import chosen_device
from got_core.evaluate.published.downloads import Download, check_there

if TYPE_CHECKING:
    import polars as pl

    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Progress
    from got_core.storage import Storage


class Opened(typing.Protocol):
    """A benchmark with its samples, and with what judges them where that was asked for."""

    name: str
    """The benchmark's, as recipes and commands write it; its protocol may have a longer one."""

    notes: tuple[str, ...]
    """What was found about the data, one line each."""

    @property
    def samples(self) -> Any:
        """The benchmark's own list."""
        ...

    def check(self) -> None:
        """Raises DetectorError where what judges cannot be trusted."""
        ...

    def generate(
        self,
        drawer: Any,
        folder: Storage,
        *,
        plan: bool = True,
        sampler: Mapping[str, Any] | None = None,
        weights_hash: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Draw what is missing in a folder of the official layout with a pipeline or a drawer; how many
        pictures were drawn. `batch_size`: most that are drawn in one call, if fewer than usual. Raises where
        the folder holds pictures of something else."""
        ...

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """One row a picture; what was judged is kept in `store` below `prefix` and not judged again.

        Raises where pictures are missing, superfluous or cannot be read, unless `partial`.
        """
        ...

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """All that scores depend on besides the model. `plan`: whether the model drew from its plan (None:
        not known); `sampler`: what was forced on it."""
        ...

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """Plain JSON. For every benchmark: `benchmark`, `protocol`, `protocol_digest`, `protocol_record`,
        `overall` (None where there is none), `low`, `high`, `tasks` (of each `mean`, `low`, `high`, `n`,
        `of`), `complete`, `partial`, `of` (`n / N`), `notes`. Higher is better in all of them.

        Raises IncompleteRunError while a picture has no verdict, unless `partial`.
        """
        ...

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What became of each sample (columns OUTCOMES); those without a verdict have neither."""
        ...

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """The first pictures of each task as PNG; empty without any."""
        ...


OUTCOMES = ("sample_id", "task", "cluster", "correct", "value")
"""`sample_id` is unique; `cluster`: samples with equal ones are not independent; `correct`: a verdict, null
where a benchmark has figures only; `value`: the figure, of which the mean is the task's score."""


@dataclass(frozen=True, kw_only=True)
class PublishedBenchmark:
    """One published benchmark that can be opened."""

    name: str
    """Such as `emu_edit/base`."""

    folder: str
    """Of its pictures and results in the storage."""

    files: tuple[Download, ...]
    unit: str
    """What its progress counts."""

    opener: Callable[..., Opened]
    judged_by: str
    """In words, for lists."""

    by_server: bool = False
    """Whether `open` wants a `JudgeConfig` as `judge` in place of networks."""

    def needed(self, *, networks: bool = True) -> tuple[Download, ...]:
        """Its downloads; without `networks` those that drawing needs."""
        return tuple(one for one in self.files if networks or not one.judging)

    def check(self, place: Path, *, networks: bool = True) -> None:
        """Raises MissingDownloadError; reads nothing."""
        check_there(self.needed(networks=networks), place)

    def pictures(self, weights_hash: str) -> str:
        """Where the pictures of these weights are kept in the storage; what judges them does not matter."""
        return f"{self.folder}/{weights_hash[:12]}/pictures"

    def results(self, weights_hash: str) -> str:
        """Where its scores of these weights are kept in the storage."""
        return f"{self.folder}/{weights_hash[:12]}/{self.name.replace('/', '_')}"

    @property
    def judged(self) -> str:
        """Where verdicts are kept in the storage; all models share them."""
        return f"{self.folder}/judged"

    def open(
        self,
        place: Path,
        *,
        device: str = "auto",
        dtype: str = "float32",
        networks: bool = True,
        judge: Any = None,
        partial: bool = False,
    ) -> Opened:
        """Read its samples from the folder that GOT_BENCHMARKS names, and load its networks.

        Args:
            device: of the networks; `auto`: a GPU where there is one.
            dtype: of the networks.
            networks: whether to load them; without them it draws only, unless there is a `judge`.
            judge: what judges in place of the networks: a `Detector` for GenEval, `Networks` for edits, a
                `JudgeConfig` for what is judged `by_server`.
            partial: leave faulty rows of the data out, and say so, instead of refusing them.

        Raises MissingDownloadError, and the benchmark's own errors where data or networks cannot be read.
        """
        wanted = networks and judge is None
        self.check(place, networks=wanted)
        device = chosen_device(device) if wanted else device
        return self.opener(
            self, place, device=device, dtype=dtype, networks=wanted, judge=judge, partial=partial
        )


class NothingJudgesError(ValueError):
    """A benchmark was opened for drawing only."""


def no_judge(name: str) -> NothingJudgesError:
    """The error of a benchmark that has nothing to judge with."""
    return NothingJudgesError(f"{name} was opened without networks: it can draw, and nothing can be judged")
