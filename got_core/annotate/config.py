"""Configuration of annotation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """How images and edit pairs are annotated."""

    annotator: str = "scenes"
    """Name of the annotator, see `scene_annotator.make_annotator`."""
