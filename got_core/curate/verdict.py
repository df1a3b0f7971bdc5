"""The verdict on a shard: one function for both the blocking checks and the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from got_core.corpus.refused import REASON as TAKEN_DOWN


class Verdict(NamedTuple):
    """Whether a shard may be used, its figures (numbers only), and the verdict in words."""

    ok: bool
    figures: dict[str, float]
    text: str


def error_share(frame: pl.DataFrame) -> float:
    """Share of rows with an `error`, 0..1; 0 for an empty table. What was taken down is not counted."""
    wanted = frame.filter(pl.col("reason").ne_missing(TAKEN_DOWN)) if "reason" in frame.columns else frame
    return wanted["error"].count() / wanted.height if wanted.height else 0.0


def shard_verdict(frames: Mapping[str, pl.DataFrame], max_error_share: float) -> Verdict:
    """A shard is good if in each of its tables (name to frame with an `error` column) few enough rows failed.

    The limit itself is allowed. Figures: rows, quarantined rows and error share a table.
    """
    figures: dict[str, float] = {}
    complaints: list[str] = []
    for name, frame in frames.items():
        share = error_share(frame)
        figures |= {
            f"{name}_rows": frame.height,
            f"{name}_errors": frame["error"].count(),
            f"{name}_error_share": share,
        }
        if share > max_error_share:
            complaints.append(
                f"{name}: {share:.1%} of {frame.height} rows are quarantined{_commonest(frame)}"
            )
    if complaints:
        return Verdict(False, figures, f"{'; '.join(complaints)}; at most {max_error_share:.0%} are allowed")
    rows = sum(frame.height for frame in frames.values())
    return Verdict(
        True,
        figures,
        f"{rows} rows, quarantined at most {max(map(error_share, frames.values()), default=0):.1%}",
    )


def _commonest(frame: pl.DataFrame) -> str:
    """The most frequent reason, in brackets."""
    if "reason" not in frame.columns:
        return ""
    reasons = (
        frame.drop_nulls("reason").group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    )
    return f" (mostly {reasons['reason'][0]})" if reasons.height else ""
