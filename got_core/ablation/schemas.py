"""The ablation's two tables: names, types and meanings of their columns. No model library here."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import Columns
from got_core.scenes.config import TASKS

TRIALS: Columns = {
    "row": (pl.String(), "name of the ablation's row"),
    "seed": (pl.Int64(), "seed of the trial"),
    "overall": (pl.Float64(), "`geneval/scenes`: plain mean of the six tasks"),
    **{task: (pl.Float64(), f"share of correct pictures of the task {task}") for task in TASKS},
    "plans_right": (
        pl.Float64(),
        "share of chains that satisfy their prompt, mean of tasks; null: no chains",
    ),
    "edits": (pl.Float64(), "`edits/scenes`: plain mean of the kinds; null: not scored"),
    "edit_plans_right": (
        pl.Float64(),
        "share of edit chains that are what was asked for, mean of kinds; null: no chains, or not scored",
    ),
    "edit_trace": (
        pl.Float64(),
        "median levels of 255 where an edit should have left background; null: not scored",
    ),
    "pictures": (pl.Int64(), "pictures drawn and judged"),
    "steps": (pl.Int64(), "training steps, of all stages"),
    "cpu_seconds": (pl.Float64(), "CPU seconds of the training workers, of all stages"),
    "protocol": (pl.String(), "name of the benchmark's protocol"),
    "protocol_digest": (pl.String(), "digest of the benchmark's protocol"),
    "weights_hash": (pl.String(), "SHA-256 of the model's weights"),
    "model": (pl.String(), "folder of the model in storage"),
    "samples": (pl.String(), "folder of pictures and verdicts in storage"),
}
"""A table of trials: one row with one seed each."""

TABLE: Columns = {
    "row": (pl.String(), "name of the row"),
    "title": (pl.String(), "what the row adds"),
    "runs": (pl.Int64(), "trials of the row, one a seed"),
    "mean": (pl.Float64(), "mean of the trials' overall scores"),
    "spread": (pl.Float64(), "sample standard deviation of the overall scores; null for a single trial"),
    **{task: (pl.Float64(), f"mean score of the task {task}") for task in TASKS},
    "plans_right": (pl.Float64(), "mean share of chains that satisfy their prompt; null: no chains"),
    "edits": (pl.Float64(), "mean score of `edits/scenes`; null: not scored"),
    "edit_plans_right": (pl.Float64(), "mean share of edit chains that are right; null: none, or not scored"),
    "edit_trace": (pl.Float64(), "mean of the trials' median traces, levels of 255; null: not scored"),
    "steps": (pl.Int64(), "training steps of a trial"),
    "cpu_seconds": (pl.Float64(), "mean CPU seconds of a trial's training"),
    "most_cpu_seconds": (pl.Float64(), "the same of the trial that took longest"),
    "published": (pl.Float64(), "GenEval overall in the paper, another protocol; null: not in the paper"),
}
"""The ablation's table: one line a row."""
