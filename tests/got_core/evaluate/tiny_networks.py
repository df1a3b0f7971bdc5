"""Tiny CLIP and DINO checkpoints of random weights, in the published format: those of the rehearsal."""

from deployments.rehearsal.judges import save_clip, save_dino

__all__ = ["save_clip", "save_dino"]
