"""Pictures that came out as no numbers: NaN or infinity, which would be shown as black.

Belongs here: finding them, and the error that tells them from the others. Not here: drawing or decoding
(`pipeline`), or what a caller makes of the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class NotFiniteError(ArithmeticError):
    """Pictures of a batch that hold NaN or infinity. The others are finished and can be used."""

    def __init__(self, reasons: Mapping[int, str], images: Sequence[Any]) -> None:
        """``reasons``: number of a picture in the batch to what is wrong with it; ``images``: one a picture
        in the asked form, None where there is a reason."""
        self.reasons, self.images = dict(sorted(reasons.items())), list(images)
        number, reason = next(iter(self.reasons.items()))
        super().__init__(f"{len(reasons)} of {len(images)} pictures failed; picture {number}: {reason}")

    def __reduce__(self) -> Any:
        return type(self), (self.reasons, self.images)


def check_finite(values: Tensor, what: str) -> dict[int, str]:
    """Numbers of the pictures (B, ...) that hold NaN or infinity, and a sentence about each.

    ``what`` names the values. Tensors of the meta device have none and pass.
    """
    if values.is_meta:
        return {}
    failed = (~values.isfinite().flatten(1).all(dim=1)).nonzero()[:, 0].tolist()
    dtype = str(values.dtype).removeprefix("torch.")
    reason = (
        f"{what} NaN or infinity (computed in {dtype}); check weights, scales and inputs, and where float16 "
        "overflows use bfloat16 or float32"
    )
    return dict.fromkeys(failed, reason)
