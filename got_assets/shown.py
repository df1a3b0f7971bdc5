"""What a materialization shows beside a few numbers, kept in the storage: an event holds links to it.

    shown/boxes/images-00000/pictures.png    the pictures of a shard's boxes
    shown/t2i_selection/images-00000/tables.md

Dagster's event log keeps every event for good, so an event stays below MAX_EVENT bytes. Each materialization
replaces the files of the one before.

Belongs here: which values move into files. Not here: tables and pictures (`reporting`, `got_core.figures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from got_assets.names import value_name
from got_core.figures import SHOWN
from got_core.storage import Storage

if TYPE_CHECKING:
    from PIL import Image

MAX_EVENT = 4000
"""Bytes of a materialization as Dagster stores it."""
TABLES = "tables"
CORE = ("rows_in", "rows_out", "rows_rejected", "seconds", "dagster/row_count")
"""Numbers that stay in the event: Dagster's plots and the table at the end of a run read them there."""
_BARE, _PARENT, _ENTRY = 1800, 180, 142
"""Bytes of an event without metadata (with the link to its value), for each input, and for each value."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture among the metadata of a result."""

    image: Image.Image


def in_files(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of the step that runs, small enough for an event: pictures are files, and where it is too much
    all texts become one page, then all numbers but CORE as well.

    Outside of a step nothing is stored, and pictures are left out.
    """
    place = _place()
    if place is None:
        return {name: "not stored" if isinstance(one, Picture) else one for name, one in metadata.items()}
    linked = {name: _linked(place, name, value) for name, value in metadata.items()}
    texts = [name for name, value in linked.items() if isinstance(value, dg.MarkdownMetadataValue)]
    others = [name for name, value in linked.items() if name not in CORE and not _is_link(value)]
    for moved in ([], texts, others):
        rest = {name: value for name, value in linked.items() if name not in moved}
        if sum(_ENTRY + len(_text(value)) for value in rest.values()) <= place.room:
            break
    if moved:
        page = "\n\n".join(f"## {name}\n\n{_text(linked[name])}" for name in moved)
        rest[TABLES] = place.link(f"{TABLES}.md", f"{page}\n".encode())
    return rest


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the step that runs keeps its files, and how many bytes its metadata may have."""

    storage: Storage
    folder: str
    room: int

    def link(self, name: str, data: bytes) -> dg.UrlMetadataValue:
        self.storage.write_bytes(f"{self.folder}/{name}", data)
        return dg.MetadataValue.url(self.storage.url_of(f"{self.folder}/{name}"))


def folder_of(asset: str, partition: str | None = None) -> str:
    """Where the files of an asset (of a shard) are."""
    return f"{SHOWN}/{value_name(asset, partition)}"


def _place() -> _Place | None:
    try:
        context = dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
    partition = context.partition_key if context.has_partition_key else None
    parents = context.assets_def.asset_deps[context.asset_key]
    return _Place(
        storage=context.resources.project.storage,
        folder=folder_of(context.asset_key.to_user_string(), partition),
        # One entry is the link to the page.
        room=MAX_EVENT - _BARE - _PARENT * len(parents) - 2 * _ENTRY,
    )


def _linked(place: _Place, name: str, value: Any) -> Any:
    if not isinstance(value, Picture):
        return value
    from got_core.figures.grids import png_bytes

    return place.link(f"{name}.png", png_bytes(value.image))


def _is_link(value: Any) -> bool:
    return isinstance(value, dg.UrlMetadataValue)


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, dg.MetadataValue) else value)
