"""Grounding: whether an edit chain points at the object that its instruction speaks of.

Belongs here: the overlap of a chain's boxes with the true ones, and its mean over cases. Not here: the
verdict on an edit or on its chain (`edit_rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from got_core.chain.grammar import Chain
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edit_rules import expected_objects, find_expected
from got_core.planning.edits import edit_steps
from got_core.planning.objects import iou
from got_core.scenes.edits import EditOp
from got_core.scenes.world import Scene


def grounding_iou(chain: Chain, source: Scene, ops: Sequence[EditOp]) -> float | None:
    """Mean IoU of the chain's boxes with the true ones in the source, over the edits of an object there.

    A missing box counts 0. None where no edit concerns an object of the source (add).
    """
    steps, values = edit_steps(chain), []
    for done, op in enumerate(ops):
        state = expected_objects(source, ops[:done])
        number = None if op.kind == "add" else find_expected(state, (op.color, op.shape))
        if number is None or state[number].box is None or state[number].old is None:
            continue
        planned = steps[done].boxes[0] if done < len(steps) else None
        # Of a chain that is no list, the first box is what it points at.
        if planned is None and len(ops) == 1 and chain.boxes:
            planned = chain.boxes[0].box
        true = state[number].box
        assert true is not None
        values.append(iou(planned.to_pixels(source.size, source.size), true) if planned else 0.0)
    return float(np.mean(values)) if values else None


def grounding_scores(samples: pl.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Mean IoU of the chains' boxes with the true ones in the source, overall and by kind.

    `samples`: one row a case with `task` and `grounding_iou` (null where there is nothing to ground). `mean`
    is over cases, with a 95 % bootstrap interval.
    """
    grounded = samples.drop_nulls("grounding_iou")
    values = grounded["grounding_iou"].to_numpy()
    rng = np.random.default_rng(config.seed)
    drawn = rng.choice(values, size=(config.bootstrap, len(values))).mean(axis=1) if len(values) else [np.nan]
    low, high = np.percentile(drawn, [2.5, 97.5])
    kinds = grounded.group_by("task", maintain_order=True).agg(pl.col("grounding_iou").mean(), pl.len())
    return {
        "mean": float(values.mean()) if len(values) else None,
        "low": float(low) if len(values) else None,
        "high": float(high) if len(values) else None,
        "n": len(values),
        "kinds": {kind: {"mean": mean, "n": n} for kind, mean, n in kinds.iter_rows()},
    }
