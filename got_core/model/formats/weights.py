"""The hash that names weights: equal for equal weights, however they are spelled and cut into files.

Belongs here: what is hashed, and in which order. Does not belong here: which files are weights (``shards``)
and how tensors are called (``names``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from got_core.model.formats.names import canonical_name
from got_core.model.formats.shards import StoredTensor, other_files, stored_tensors, weight_folders

SCHEME = "names and tensors, 1"
"""Part of every hash, so that those made by other rules never equal one of these."""

HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"


@dataclass(frozen=True, order=True)
class _Entry:
    """A tensor by what it is: its canonical name, and what it holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str

    @classmethod
    def of(cls, stored: StoredTensor, name: str) -> _Entry:
        digest = hashlib.sha256()
        for chunk in stored.chunks():
            digest.update(chunk)
        return cls(name, stored.dtype, stored.shape, digest.hexdigest())


def weights_hash(folder: Path, variant: str | None = None) -> str:
    """SHA-256 over names, types, shapes and values of all weights below a folder.

    Tensors are named by the folder that they lie in and by present libraries' names; order, metadata, the
    number of files and whether they are safetensors or ``.bin`` do not count, other values or another type
    do. Of several files with the same weights (variants) those count that a loader reads. A head that is the
    embedding counts once, whether it was written or not. LoRA weights that are not merged count as what they
    are. Files are read in pieces; 12 GB take about as long as reading and SHA-256 of 12 GB.

    Raises FileNotFoundError or ValueError for weights that are missing, damaged or more than tensors.
    """
    lines = [json.dumps([SCHEME])]
    for part in weight_folders(folder):
        place = part.relative_to(folder).as_posix()
        lines += [
            json.dumps([place, entry.name, entry.dtype, entry.shape, entry.digest])
            for entry in sorted(_without_tied_head(_entries(part, variant)))
        ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _entries(folder: Path, variant: str | None) -> Iterator[_Entry]:
    for stored in stored_tensors(folder, variant):
        yield _Entry.of(stored, canonical_name(stored.key))
    for stored in other_files(folder):
        yield _Entry.of(stored, f"{stored.path.name}/{canonical_name(stored.key)}")


def _without_tied_head(entries: Iterable[_Entry]) -> list[_Entry]:
    listed = list(entries)
    embedding = next((one for one in listed if one.name == EMBEDDING), None)
    if embedding is None:
        return listed
    same = _Entry(HEAD, embedding.dtype, embedding.shape, embedding.digest)
    return [one for one in listed if one != same]
