"""Which column of a released file means what. Belongs here: names and defaults; not here: reading files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

ImageKey = Literal["path", "name", "stem", "image_id"]
IMAGE_KEYS: tuple[ImageKey, ...] = ("path", "name", "stem", "image_id")


def _check_names(mapping: Any, *names: str) -> None:
    for name in names:
        if not getattr(mapping, name):
            raise ValueError(f"{type(mapping).__name__}.{name} must not be empty")


@dataclass(frozen=True, kw_only=True)
class T2IMapping:
    """Columns of a text-to-image data set. A dotted name reaches into nested records: `meta.prompt`.

    Raises:
        ValueError: `image_is` names no way to find an image, or a required column has no name.
    """

    name: str
    """Name of the data set: part of every chain's id, and the rows' source where nothing else says it."""

    image: str = "image"
    """Column that names the image."""

    image_is: ImageKey = "path"
    """What that column holds: the path below the raw folder, the file's name, its name without ending, or
    the SHA-256 of its bytes."""

    prompt: str = "prompt"
    """Column of the concise prompt."""

    chain: str = "got"
    """Column of the chain, in any of the three spellings."""

    coordinates: str | None = None
    """Column of placeholders and their coordinates, where the chain has placeholders."""

    caption: str | None = None
    """Column of the detailed caption. None: the chain's text without its boxes."""

    phrases: str | None = None
    """Column of the names that have a box (list of texts). None: read off the chain."""

    chain_id: str | None = None
    """Column of an id given before (32 hex digits). None: made from image, data set and prompt."""

    source: str | None = None
    """Column that says where the image comes from. None: what ingestion knows."""

    licence: str | None = None
    """Column of the image's licence. None: what ingestion knows."""

    default_licence: str | None = None
    """Licence of rows for which neither the file nor ingestion states one."""

    def __post_init__(self) -> None:
        _check_names(self, "name", "image", "prompt", "chain")
        if self.image_is not in IMAGE_KEYS:
            raise ValueError(
                f"T2IMapping.image_is must be one of {', '.join(IMAGE_KEYS)}, not {self.image_is!r}"
            )

    @property
    def required(self) -> tuple[str, ...]:
        """Columns without which no row can be read."""
        return (self.image, self.prompt, self.chain, *([self.coordinates] if self.coordinates else []))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        also = (self.caption, self.phrases, self.chain_id, self.source, self.licence)
        return (*self.required, *(name for name in also if name))


@dataclass(frozen=True, kw_only=True)
class EditMapping:
    """Columns of an edit data set whose rows are joined by id with a local copy of the pairs."""

    name: str = "omniedit"
    """As `T2IMapping.name`."""

    pair: str = "omni_edit_id"
    """Column of the pair's id in the local copy."""

    chain: str = "got"
    """Column of the edit chain, with placeholders."""

    coordinates: str | None = "coord"
    """Column of placeholders and their coordinates: a JSON text or an object."""

    instruction: str | None = None
    """Column of the instruction. None: the pair's own."""

    instructions: str | None = None
    """Column of all wordings (list of texts). None: the pair's own."""

    chain_id: str | None = None
    source: str | None = None
    licence: str | None = None
    default_licence: str | None = None
    """These four as in `T2IMapping`."""

    def __post_init__(self) -> None:
        _check_names(self, "name", "pair", "chain")

    @property
    def required(self) -> tuple[str, ...]:
        """Columns without which no row can be read."""
        return (self.pair, self.chain, *([self.coordinates] if self.coordinates else []))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        also = (self.instruction, self.instructions, self.chain_id, self.source, self.licence)
        return (*self.required, *(name for name in also if name))


@dataclass(frozen=True, kw_only=True)
class PairMapping:
    """Columns of the local copy of edit pairs: TIGER-Lab/OmniEdit's names, pictures as bytes in parquet."""

    key: str = "omni_edit_id"
    """Column of the pair's id."""

    source_image: str = "src_img"
    """Column of the source picture: bytes, or an object with `bytes`."""

    target_image: str = "edited_img"
    """Column of the edited picture, alike."""

    instructions: str = "edited_prompt_list"
    """Column of the instruction: a text, or a list of wordings of which the first one counts as given."""

    source_name: str = "omniedit"
    """Where the pairs come from; travels with every row."""

    licence: str | None = None
    """Licence of the pairs; travels with every row."""

    def __post_init__(self) -> None:
        _check_names(self, "key", "source_image", "target_image", "instructions")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (self.key, *self.pictures, self.instructions)

    @property
    def pictures(self) -> tuple[str, str]:
        """The columns of the source and the target pictures."""
        return (self.source_image, self.target_image)


LAHR = T2IMapping(name="lahr")
JOURNEYDB = T2IMapping(name="journeydb")
OMNIEDIT = EditMapping()
"""The released sets. The keys of the two text-to-image sets are not known: look at a file and map them."""

OUR_T2I = T2IMapping(
    name="got",
    image_is="image_id",
    image="image_id",
    caption="caption",
    phrases="phrases",
    chain_id="chain_id",
    source="source",
    licence="licence",
)
OUR_EDITS = EditMapping(
    name="got",
    instruction="instruction",
    instructions="instructions",
    chain_id="chain_id",
    source="source",
    licence="licence",
)
"""What `export` writes: the released keys, and beside them what makes a row come back as it was."""

AnyMapping = T2IMapping | EditMapping
M = TypeVar("M", T2IMapping, EditMapping, PairMapping)


def mapping_of(kind: type[M], values: Mapping[str, Any]) -> M:
    """A mapping from a document. Raises ValueError naming a field that does not exist or is no text."""
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no field {', '.join(unknown)}; its fields are {', '.join(sorted(known))}"
        )
    wrong = [name for name, value in values.items() if not isinstance(value, str | None)]
    if wrong:
        raise ValueError(f"{kind.__name__}.{wrong[0]} must be the name of a column")
    return kind(**values)


def read_mapping(kind: type[M], path: Path, defaults: Mapping[str, Any] | None = None) -> M:
    """A mapping from a JSON file; `defaults` for fields that it leaves out. ValueError names the file."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it must hold one JSON object, field to column name")
        return mapping_of(kind, {**(defaults or {}), **values})
    except (ValueError, TypeError) as error:
        raise ValueError(f"column mapping {path}: {error}") from error
