"""What every source of samples is to training.

Belongs here: the protocol and what sources give. Not here: sources themselves (``raw``, ``tars``,
``latents``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from got_core.train.latents.blocks import StoredLatents


@dataclass(frozen=True)
class Pictures:
    """Of a row: the picture to draw, and that to edit, where there is one, as they are stored."""

    target: Image.Image
    source: Image.Image | None = None


Content = Pictures | StoredLatents
"""What a source may give of a row."""


class SampleSource(Protocol):
    """Reads what is kept of a manifest's rows. An implementation is picklable: each decoder process has its
    own copy, without open files."""

    def read(self, rows: Sequence[int]) -> list[Content | Exception]:
        """What is kept of rows (places in the manifest) in their order, read at the same time where that is
        quicker.

        An error stands in place of what cannot be had: a PictureError where the source has patience, else
        that of one try. Raises HangingStoreError where the store hangs, and what is no fault of a row.
        """
        ...
