"""Tables for the terminal.

Belongs here: aligning. Not here: what stands in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned with blanks; the first to the left, the others to the right."""
    cells = [list(header), *([str("" if cell is None else cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def score_table(scores: dict[str, Any]) -> str:
    """Each task and the overall score, as a table for the terminal; `plans`: the share of right plans, where
    a benchmark judges them."""

    def cells(name: str, one: dict[str, Any], mean: str, plans: str, pictures: str) -> tuple[Any, ...]:
        if one[mean] is None:
            return name, "", "", "", one[pictures]
        interval = f"{one['low']:.3f} to {one['high']:.3f}"
        planned = one.get(plans)
        return name, f"{one[mean]:.3f}", interval, "" if planned is None else f"{planned:.3f}", one[pictures]

    rows = [cells(name, one, "mean", "plan_correct", "n") for name, one in scores["tasks"].items()]
    rows.append(cells("overall", scores, "overall", "plan_overall", "found"))
    lines = [text_table([scores["protocol"], "score", "95 % interval", "plans", "pictures"], rows)]
    if scores.get("grounding", {}).get("mean") is not None:
        lines.append(f"mean IoU of planned boxes with the true ones: {scores['grounding']['mean']:.3f}")
    if trace := (traces := scores.get("traces") or {}).get("trace"):
        removed = (traces["kinds"].get("remove") or {}).get("trace")
        alone = f" ({removed['median']:.1f} where it was removed)" if removed else ""
        lines.append(f"median trace where an object has left: {trace['median']:.1f} levels of 255{alone}")
    return "\n".join(lines)
