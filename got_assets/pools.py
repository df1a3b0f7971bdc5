"""Names of Dagster's pools: what an instance may limit across runs.

Belongs here: the names. Not here: limits, which belong to an instance (`dagster instance concurrency set`).
"""

from __future__ import annotations

DECODING = "decoding"
"""Runs that read raw pictures."""

ANNOTATION = "annotation"
"""Runs that ask the annotator."""

TRAINING = "training"
"""Runs that train or encode with models."""
