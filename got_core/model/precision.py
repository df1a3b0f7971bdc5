"""In which number format a pipeline's parts are kept: said in its configuration, honoured when it is loaded.

Belongs here: names of formats, and what saving and loading do with them. Does not belong here: what is
computed in another format than weights are kept in (``train.optim``).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}

_HUB_OPTIONS = ("cache_dir", "force_download", "proxies", "token", "local_files_only", "revision")


def widest(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """The format that loses nothing of any tensor's; None where none is of a known floating format."""
    known = {tensor.dtype for tensor in tensors} & set(DTYPES.values())
    return functools.reduce(torch.promote_types, known) if known else None


def dtypes_of(parts: Mapping[str, Any]) -> str | dict[str, str]:
    """The format's name if all networks among the parts are kept in one, else the names by part.

    A part whose tensors differ counts as the widest of them.
    """
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    found = {
        name: str(dtype).removeprefix("torch.")
        for name, module in sorted(modules.items())
        if (dtype := widest(module.state_dict().values()))
    }
    return next(iter(found.values())) if len(set(found.values())) == 1 else found


def loading_dtypes(said: str | Mapping[str, str] | None, asked: Any, where: str) -> Any:
    """What a pipeline is loaded in: what is ``asked`` for, and where nothing is, what its configuration said.

    ``asked`` as ``DiffusionPipeline.from_pretrained`` takes ``dtype``: a format, or formats by part, of which
    ``default`` stands for all others. Raises ValueError for a configuration that names no known format.
    """
    if said is None or not (asked is None or isinstance(asked, Mapping)) or "default" in (asked or {}):
        return asked
    by_part = dict(said) if isinstance(said, Mapping) else {"default": said}
    unknown = [name for name in by_part.values() if not isinstance(name, str) or name not in DTYPES]
    if unknown:
        raise ValueError(f"{where}: dtype {unknown[0]!r} is none of {', '.join(DTYPES)}")
    known = {part: DTYPES[name] for part, name in by_part.items()}
    return known["default"] if isinstance(said, str) and not asked else {**known, **(asked or {})}


def autoencoder_dtype(config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """The format of an autoencoder where ``dtype`` is asked for.

    One whose configuration says ``force_upcast`` overflows in float16 and stays in float32, as diffusers' own
    pipelines run it.
    """
    return torch.float32 if dtype == torch.float16 and config.get("force_upcast") else dtype


class KeepsPrecision(DiffusionPipeline):
    """A pipeline that comes back in the format in which it was saved.

    Saving writes ``dtype`` into the configuration: a name, such as ``bfloat16``, or names by part where they
    differ. A part whose own tensors differ comes back in the widest of their formats, so nothing is lost.
    Loading goes by it unless ``dtype`` (``torch_dtype``) asks for another. Pipelines that say nothing are
    loaded as the libraries do: the language model as its own configuration says, the others in float32. A
    ``vae`` that overflows in float16 (``force_upcast``) stays in float32 where float16 is asked for.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Self:
        """As diffusers' own."""
        if options.get("dtype") is None:
            options["dtype"] = options.pop("torch_dtype", None)
        hub = {name: options[name] for name in _HUB_OPTIONS if name in options}
        said = cls.load_config(pretrained_model_name_or_path, **hub).get("dtype")
        options["dtype"] = loading_dtypes(said, options["dtype"], f"{pretrained_model_name_or_path}")
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **options: Any) -> None:
        """As diffusers' own, with the format that the parts have now."""
        self.register_to_config(dtype=dtypes_of(self.components))
        super().save_config(save_directory, push_to_hub, **options)

    def to(self, *arguments: Any, **options: Any) -> Self:
        """As diffusers' own."""
        super().to(*arguments, **options)
        self._keep_autoencoder_wide()
        return self

    def _keep_autoencoder_wide(self) -> None:
        wanted = autoencoder_dtype(self.vae.config, self.vae.dtype)
        if wanted != self.vae.dtype:
            self.vae.to(wanted)
