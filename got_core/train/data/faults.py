"""Counting the samples whose pictures could not be had, and when they are too many.

Belongs here: counts, names and the limit, of one worker. Not here: opening pictures (``pictures``), and what
takes their place (``substitutes``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from got_core.train.data.pictures import PictureError

WINDOW = 2000
"""Samples of a worker over which the share of substitutes is looked at."""
AT_LEAST = 10
"""Substitutes among them that are never too many, unless none is allowed."""
LISTED = 20
"""Samples that are named with their reason, in the log of a worker and in what it leaves."""


Faults = list[tuple[str, PictureError]]
"""Ids of the rows that could not be had for a sample, each with why."""


class TooManySubstitutesError(RuntimeError):
    """More pictures than the recipe allows cannot be had."""


@dataclass
class PictureFaults:
    """Samples of one worker whose pictures could not be had."""

    max_share: float = 0.01
    """Largest share of substitutes among the last WINDOW samples; 0 allows none."""
    report: Callable[[str], None] | None = None
    substituted: int = 0
    """Samples that another row took the place of since the count was set."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """The first LISTED rows: ``index`` (number of the sample), ``sample_id``, ``path``, ``reason``."""
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _named: set[str] = field(default_factory=set)

    def count(self, index: int, faults: Faults) -> None:
        """Note a sample and the (sample_id, error) of the rows that could not be had for it, if any.

        Raises TooManySubstitutesError above the share.
        """
        self._recent.append(bool(faults))
        self.substituted += bool(faults)
        for sample_id, error in faults:
            if sample_id not in self._named:
                self._named.add(sample_id)
                self._name(index, sample_id, error)
        if faults:
            self._check()

    def _name(self, index: int, sample_id: str, error: PictureError) -> None:
        known = len(self._named)
        if known <= LISTED:
            self.listed.append(
                {"index": index, "sample_id": sample_id, "path": error.path, "reason": error.reason}
            )
        # All at first, then ever more seldom.
        if self.report is not None and (known <= LISTED or not known & (known - 1)):
            self.report(f"sample {sample_id} is substituted ({known} so far): {error}")

    def _check(self) -> None:
        count, drawn = sum(self._recent), len(self._recent)
        allowed = max(AT_LEAST, self.max_share * drawn) if self.max_share else 0
        if count <= allowed:
            return
        first = "; ".join(f"{one['path']}: {one['reason']}" for one in self.listed[:5])
        raise TooManySubstitutesError(
            f"{count} of the last {drawn} samples ({count / drawn:.1%}) have pictures that cannot be read, "
            f"max_substituted allows {self.max_share:.1%}; the first: {first}. Bring the files back, or have "
            "their shards ingested again, then start the training again: it goes on from its last checkpoint"
        )
