"""How much is done at once: names of Dagster's pools, and shards.

Belongs here: what other places agree on. Not here: limits of pools, which belong to an instance (`dagster
instance concurrency set`).
"""

from __future__ import annotations

import os

from got_core.settings import Settings

DECODING = "decoding"
"""Runs that read raw pictures."""

ANNOTATION = "annotation"
"""Runs that ask the annotator."""

TRAINING = "training"
"""Runs that train or encode with models."""

MOST_SHARDS = 8
"""Shards at once unless GOT_PARALLEL says more: a process for each takes some hundred MB."""


def shards_at_once(settings: Settings) -> int:
    """GOT_PARALLEL, or as many as there are cores, 8 at most; 1 where vLLM's engines take all GPUs."""
    if settings.parallel is not None:
        return settings.parallel
    return 1 if settings.annotator_name == "vllm" else min(len(os.sched_getaffinity(0)), MOST_SHARDS)
