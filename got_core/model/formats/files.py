"""Which file of a folder its weights are read from: plain or a variant, whole or sharded, which format.

Belongs here: names of files, as diffusers and transformers write them. Does not belong here: what is in the
files (``shards``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_STEMS = {"safetensors": "(?:diffusion_pytorch_)?model", "bin": "(?:diffusion_)?pytorch_model"}
_SHARD = r"-\d{5}-of-\d{5}"
_VARIANT = rf"(?P<variant>(?!.*{_SHARD})[^.]+)"


def _any_suffix(pattern: str) -> dict[str, re.Pattern[str]]:
    return {
        suffix: re.compile(pattern.format(stem=stem, suffix=suffix, variant=_VARIANT, shard=_SHARD))
        for suffix, stem in _STEMS.items()
    }


_INDEX = _any_suffix(r"{stem}\.{suffix}\.index(?:\.{variant})?\.json")
_WHOLE = _any_suffix(r"{stem}(?:\.{variant})?\.{suffix}")
_PIECE = _any_suffix(r"{stem}(?:\.[^.]+)?{shard}(?:\.[^.]+)?\.{suffix}")

EXPECTED = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "pytorch_model.bin",
)
"""What is looked for, apart from variants and the names of diffusers (``diffusion_pytorch_model``)."""


@dataclass(frozen=True)
class WeightFile:
    """A file that holds a folder's weights, or the index of those that do."""

    path: Path
    suffix: str
    """``safetensors`` or ``bin``."""
    variant: str | None


def weight_files(folder: Path) -> list[WeightFile]:
    """All that a folder's weights could be read from; an index comes before a whole file."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return [
        WeightFile(path, suffix, match["variant"])
        for patterns in (_INDEX, _WHOLE)
        for suffix, pattern in patterns.items()
        for path in paths
        if (match := pattern.fullmatch(path.name))
    ]


def find_weights(folder: Path, variant: str | None = None) -> WeightFile:
    """The file that a folder's weights are read from.

    That of ``variant`` (such as ``fp16``) if there is one; else the plain one, else the only variant there
    is. Safetensors come before ``.bin``. Raises FileNotFoundError where there are no weights, ValueError
    where there are several variants to choose from.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    files = weight_files(folder)
    asked = [file for file in files if variant is not None and file.variant == variant]
    for group in (asked, files):
        for suffix in ("safetensors", "bin"):
            of_kind = [file for file in group if file.suffix == suffix]
            plain = [file for file in of_kind if file.variant in (None, variant)]
            if of_kind:
                return plain[0] if plain else _only_variant(folder, of_kind)
    raise FileNotFoundError(_nothing_found(folder))


def _nothing_found(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    pieces = [name for name in names if _matches(_PIECE, name)]
    if pieces:
        return (
            f"{folder} holds {len(pieces)} shards such as {pieces[0]}, but not their index (*.index.json); "
            "download it too"
        )
    there = f"; there are {', '.join(names[:5])}" if names else ""
    return f"{folder} holds none of {', '.join(EXPECTED)} (nor of diffusers' names){there}"


def _only_variant(folder: Path, files: list[WeightFile]) -> WeightFile:
    names = sorted({str(file.variant) for file in files})
    if len(names) > 1:
        raise ValueError(
            f"{folder} holds variants of its weights ({', '.join(names)}) and no plain ones: "
            "name one as `variant`, or leave only one in the folder"
        )
    return files[0]


def is_named_by_a_library(name: str) -> bool:
    """Whether a file is one of those that weights are looked for in, or a copy made of a ``.bin``."""
    plain = name.removesuffix(".safetensors") if name.endswith(".bin.safetensors") else name
    return _matches(_WHOLE, plain) or _matches(_PIECE, plain)


def _matches(patterns: dict[str, re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns.values())
