"""A saved pipeline made ready to draw, as a consumer chooses: where, in which format, with how much memory.

    mlflow.pyfunc.load_model("models:/got@champion", model_config={"dtype": "bfloat16", "offload": "model"})

Belongs here: those choices, and how many pictures fit into memory at once. Not here: drawing (`rows`).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

OFFLOAD = ("none", "model", "sequential")
DTYPE_NAMES = ("float64", "float32", "float16", "bfloat16")
"""Keys of `precision.DTYPES`, which brings torch."""
MOST = 16
"""Pictures of one call, at most, unless somebody chooses more."""
_TENSORS = 4
"""Tensors of a picture's size that decoding holds at once, about."""
_CHANNELS = 64
"""Of an autoencoder that does not say how wide it is at full size."""
_SHARE = 0.5
"""Of the free memory that a call may take."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a model is loaded, by the keys of `model_config`. Raises ValueError, naming the field."""

    device: str = "auto"
    """As torch names devices, such as `cuda:1`; `auto`: a GPU if there is one."""

    dtype: str | None = None
    """`float32`, `bfloat16`, `float16`, `float64`; None: as it was saved."""

    offload: str = "none"
    """`model`: a part is on the GPU only while it computes; `sequential`: a layer is, which is slow."""

    eight_bits: bool = False
    """The language model in 8 bits (needs bitsandbytes)."""

    batch: int | None = None
    """Pictures drawn in one call, at most; None: as many as free memory allows, 16 at most."""

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or not self.device:
            raise ValueError(f"device must be auto, cpu, cuda or such, got {self.device!r}")
        if self.offload not in OFFLOAD:
            raise ValueError(f"offload must be one of {', '.join(OFFLOAD)}, got {self.offload!r}")
        if not isinstance(self.eight_bits, bool):
            raise ValueError(f"eight_bits must be true or false, got {self.eight_bits!r}")
        whole = isinstance(self.batch, int) and not isinstance(self.batch, bool) and self.batch >= 1
        if self.batch is not None and not whole:
            raise ValueError(f"batch must be a whole number of at least 1, got {self.batch!r}")
        if self.dtype is not None and self.dtype not in DTYPE_NAMES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPE_NAMES)}, got {self.dtype!r}")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self:
        """From a `model_config`. Raises ValueError for a key that is none."""
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(given or {}) - set(known)):
            raise ValueError(f"unknown load option {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**(given or {}))


DEFAULTS: dict[str, Any] = asdict(LoadOptions())
"""What is logged with an entry: MLflow passes on only the keys that are there."""


def load_pipeline(folder: Path | str, options: LoadOptions | None = None) -> GoTPipeline:
    """The pipeline of a folder (safetensors), ready to draw.

    Raises ValueError for offloading without a GPU and for a device that is not there, ModuleNotFoundError
    where 8 bits need a package, and what the libraries raise over files that cannot be used.
    """
    import torch

    from got_core.model.pipeline import GoTPipeline
    from got_core.model.precision import DTYPES

    options = options or LoadOptions()
    device = _device(options)
    dtype = {} if options.dtype is None else {"dtype": DTYPES[options.dtype]}
    pipeline = GoTPipeline.from_pretrained(
        str(folder), use_safetensors=True, **dtype, **_quantization(options)
    )
    pipeline.set_progress_bar_config(disable=True)
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(torch.device(device))
    return pipeline


def _device(options: LoadOptions) -> str:
    import torch

    gpu = torch.cuda.is_available()
    device = ("cuda" if gpu else "cpu") if options.device == "auto" else options.device
    if device.startswith("cuda") and not gpu:
        raise ValueError(f"device {device!r} is not there: torch finds no GPU; take auto or cpu")
    if options.offload != "none" and not device.startswith("cuda"):
        raise ValueError(f"offload {options.offload!r} moves parts to a GPU and back, and there is none")
    return device


def _quantization(options: LoadOptions) -> dict[str, Any]:
    if not options.eight_bits:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModuleNotFoundError(
            "eight_bits needs the package bitsandbytes: pip install bitsandbytes, or leave the option out",
            name="bitsandbytes",
        )
    from diffusers.quantizers import PipelineQuantizationConfig
    from transformers import BitsAndBytesConfig

    mapping = {"mllm": BitsAndBytesConfig(load_in_8bit=True)}
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping=mapping)}


# -- memory -------------------------------------------------------------------------------------------


class BatchSize:
    """How many pictures go into one call: as many as somebody chose, or as free memory allows now.

    Where a call runs out of memory all the same it is halved for good. Threads may share it.
    """

    def __init__(self, pipeline: GoTPipeline, chosen: int | None = None) -> None:
        self._pipeline, self._chosen = pipeline, chosen
        self._most = chosen or MOST
        self._lock = threading.Lock()

    def now(self, height: int, width: int) -> int:
        """Pictures of this size, at least 1."""
        if self._chosen is not None:
            return self._most
        return max(1, min(self._most, pictures_that_fit(self._pipeline, height, width)))

    def halve(self, tried: int) -> None:
        """A call with so many has run out of memory."""
        with self._lock:
            self._most = max(1, min(self._most, tried // 2))


def pictures_that_fit(pipeline: GoTPipeline, height: int, width: int) -> int:
    """How many of this size half of the memory that is free now holds."""
    return int(_SHARE * free_bytes(pipeline)) // picture_bytes_needed(pipeline, height, width)


def picture_bytes_needed(pipeline: GoTPipeline, height: int, width: int) -> int:
    """Memory that drawing a picture takes besides weights, about: the autoencoder's widest tensors, which
    are several times what a drawing network holds of its latents."""
    config = pipeline.vae.config
    channels = (config.get("block_out_channels") or [config.get("refiner_channels") or _CHANNELS])[0]
    size = next(pipeline.vae.parameters()).element_size()
    return height * width * max(int(channels), 1) * _TENSORS * size


def free_bytes(pipeline: GoTPipeline) -> int:
    """Free memory where a pipeline computes."""
    import torch

    device = pipeline._execution_device
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for itself is free for the next call.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return _free_memory()


def _free_memory(info: Path = Path("/proc/meminfo"), container: Path = Path("/sys/fs/cgroup")) -> int:
    """Of the machine, as Linux says it, or of the container where that has less; elsewhere a size that bounds
    nothing small."""
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return 8 << 30
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    free = sizes.get("MemAvailable", 8 << 30)
    with suppress(OSError, ValueError):  # the limit is "max" where there is none
        limit, used = (int((container / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (container / "memory.stat").read_text().splitlines()
        cache = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        free = min(free, max(0, limit - used + cache))
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a call failed for want of memory; torch says so of a CPU in words alone."""
    import torch

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
