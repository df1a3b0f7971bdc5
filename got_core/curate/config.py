"""Configuration of curation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Limits of what is trained on."""

    max_boxes: int = 16
    """Most boxes in a chain; one canvas is drawn for each."""
    min_box_side: int = 8
    """Shortest side of a box in thousandths of the image."""
    max_chain_chars: int = 4000
    """Longest chain, in characters of the data form."""
    drop_near_duplicates: bool = False
    """Reject images that nearly repeat another one of their shard."""
    max_error_share: float = 0.2
    """Largest share of quarantined rows in a shard's annotation tables before the shard is left out."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"max_error_share is a share of 0..1, got {self.max_error_share}")
        if self.max_boxes < 1 or self.max_chain_chars < 1:
            raise ValueError("max_boxes and max_chain_chars must be at least 1")
