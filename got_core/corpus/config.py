"""Limits and sizes of ingestion. Belongs here: numbers a recipe chooses. Where the images are: settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """What is accepted from the raw folder and how it is cut into shards.

    Raises:
        ValueError: a limit outside its range, naming the field.
    """

    image_shard_size: int = 250
    """Files per image shard (the unit of a partition)."""

    edit_shard_size: int = 250
    """Rows per edit shard."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Formats that are read. Also possible: GIF, BMP, TIFF."""

    min_side: int = 32
    """Pixels of the shorter side, at least."""

    max_pixels: int = 50_000_000
    """Width times height, at most; judged from the header, before anything is decompressed."""

    max_bytes: int = 64 * 1024 * 1024
    """Size of a file, at most; a larger one is not read."""

    max_aspect: float = 8.0
    """Longer side over shorter side, at most."""

    max_pair_aspect_change: float = 0.05
    """Relative difference of the aspect ratios of an edit's source and target, at most."""

    near_duplicate_distance: int = 4
    """Bits of the 64-bit perceptual hash in which near duplicates differ, at most; -1 marks none."""

    near_duplicate_color: int = 24
    """Levels (0 to 255) by which near duplicates differ in any cell of a 4x4 mean-colour grid, at most.
    The hash sees luminance only: without this a recoloured picture would count as a duplicate."""

    max_error_share: float = 0.2
    """Share of quarantined rows above which a shard fails its check."""

    ignore: tuple[str, ...] = (".*", "Thumbs.db", "desktop.ini", "@eaDir")
    """Names (glob patterns) of files and folders that are no input at all and are never listed."""

    source: str = "raw"
    """Name of where the images come from; travels with every row. A pair table's source_name goes first."""

    licence: str | None = None
    """Licence of the images, where the table does not say; travels with every row."""

    workers: int | None = None
    """Threads that read and decode; None: one per core, at most eight. Memory holds twice as many images."""

    def __post_init__(self) -> None:
        for name in (
            "image_shard_size",
            "edit_shard_size",
            "min_side",
            "max_pixels",
            "max_bytes",
            "max_aspect",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"IngestConfig.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"IngestConfig.max_error_share must lie in 0..1, not {self.max_error_share}")
