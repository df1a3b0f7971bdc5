"""Opening a saved pipeline to draw with: device, format of numbers, threads.

Belongs here: what is chosen where nothing is asked for. Not here: reading the folder (`model.formats`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

DEVICES = ("auto", "cpu", "cuda")


def opened(
    folder: Path | str, *, device: str = "auto", dtype: str | None = None, threads: int | None = None
) -> GoTPipeline:
    """A saved pipeline, quiet, on its device.

    `device`: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:1`; `dtype`: such as `bfloat16`; None:
    as it was saved, on any device. `threads` of torch in this process; None: as they are. Raises ValueError
    for a device or format that there is not, else as `load_pipeline`.
    """
    import torch

    from got_core.model.formats.saved import load_pipeline
    from got_core.model.precision import DTYPES

    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, or not given, got {dtype!r}")
    place = torch.device(chosen_device(device))
    if threads:
        torch.set_num_threads(threads)  # the workers of training have one thread each instead
    pipeline = load_pipeline(folder, DTYPES[dtype] if dtype else None)
    return pipeline.to(place) if place.type != "cpu" else pipeline


def chosen_device(device: str) -> str:
    """`auto` decided. Raises ValueError for a device that there is not."""
    import torch

    kind, _, number = device.partition(":")
    if kind not in DEVICES or (number and not (kind == "cuda" and number.isdigit())):
        raise ValueError(f"the device must be one of {', '.join(DEVICES)}, or such as cuda:1, got {device!r}")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if found else "cpu"
    if kind == "cuda" and int(number or 0) >= found:
        raise ValueError(f"the device {device} was asked for, GPUs found: {found}; take cpu, or auto")
    return device
