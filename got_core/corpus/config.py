"""Limits and sizes of ingestion. Belongs here: numbers a recipe chooses. Where the images are: settings."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from got_core.digests import execution

_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"),
    *("tif", "tiff", "avif", "heic", "heif", "jxl", "jp2", "psd"),
)
PICTURES = tuple(f"*.{ending}" for ending in _ENDINGS)
"""Names of pictures, capital letters or not. Those of formats that are not read are quarantined."""


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """How pictures are fetched from URLs: politely, and only from public addresses.

    Raises:
        ValueError: a limit outside its range or a network that is none, naming the field.
    """

    concurrency: int = execution(32)
    """Requests under way at once, over all hosts."""

    per_host: int = execution(2)
    """Requests under way at once to one host (name and port)."""

    attempts: int = execution(3)
    """Tries of a URL within one run, where trying again can help (time-outs, 429, 5xx, lost connections)."""

    backoff_seconds: float = execution(1.0)
    """Wait before the second try; doubles with each further one. A server's Retry-After goes first."""

    max_wait_seconds: float = execution(60.0)
    """Longest wait before a try. A server that asks for more is left alone until the next run."""

    timeout_seconds: float = execution(30.0)
    """For one try, from the first connection to the last byte, redirects included."""

    max_redirects: int = 5
    """Redirects that are followed; each is checked like the first address."""

    give_up_host_after: int = execution(10)
    """Failures in a row (no connection, time-out, 5xx, 429) after which a host is left alone for the run."""

    allow_networks: tuple[str, ...] = ()
    """Networks such as "10.1.0.0/16" that may be fetched from although they are private. None by default."""

    opt_out: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    """Directives of the header X-Robots-Tag for which a picture is not taken. `TDM-Reservation: 1` always
    counts as well. Directives for other named agents count only if they are noai or noimageai."""

    user_agent: str = execution("got-ingest")
    """How the fetcher names itself; add an address where you can be reached."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "per_host", "attempts", "give_up_host_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"FetchConfig.{name} must be at least 1, not {getattr(self, name)}")
        if self.timeout_seconds <= 0:
            raise ValueError(f"FetchConfig.timeout_seconds must be above 0, not {self.timeout_seconds}")
        for name in ("max_redirects", "backoff_seconds", "max_wait_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"FetchConfig.{name} must not be below 0, but is {getattr(self, name)}")
        for network in self.allow_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"FetchConfig.allow_networks: {error}") from None


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

    max_archive_members: int = 1_000_000
    """Members of a tar, at most; the rest of a longer one is not read."""

    max_archive_bytes: int = 64 * 1024**3
    """Bytes of a tar after decompression, at most."""

    max_row_group_bytes: int = 2 * 1024**3
    """Bytes of the pictures of a parquet file's row group after decompression, at most."""

    max_expansion: float = 100.0
    """Bytes after decompression over bytes before, at most, of a tar or parquet file."""

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

    pictures: tuple[str, ...] = PICTURES
    """Names (glob patterns) of files in folders and archives that are pictures, whatever their bytes turn out
    to be. All others are no input: passed over and counted. ("*",) takes every file."""

    ignore: tuple[str, ...] = (".*", "__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")
    """Names (glob patterns) of files and folders that are no input, whatever lies in them."""

    source: str = "raw"
    """Name of where the images come from; travels with every row. A name in the table, in the tar's metadata
    or in the list of inputs goes first."""

    licence: str | None = None
    """Licence of the images, where neither table, metadata nor list of inputs says; goes with every row."""

    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How pictures are fetched from tables of URLs."""

    workers: int | None = execution(None)
    """Files that are read at once; None: sixteen. Memory holds twice as many files, and a decoded picture a
    core, at most eight."""

    def __post_init__(self) -> None:
        for name in (
            "image_shard_size",
            "edit_shard_size",
            "min_side",
            "max_pixels",
            "max_bytes",
            "max_aspect",
            "max_archive_members",
            "max_archive_bytes",
            "max_row_group_bytes",
            "max_expansion",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"IngestConfig.{name} must be at least 1, not {getattr(self, name)}")
        if not self.pictures:
            raise ValueError('IngestConfig.pictures must hold at least one pattern; ("*",) takes every file')
        for name in ("pictures", "ignore"):
            patterns = getattr(self, name)
            if isinstance(patterns, str) or not all(patterns):
                raise ValueError(
                    f"IngestConfig.{name} must be a tuple of patterns such as '*.png', none of them empty, "
                    f"not {patterns!r}"
                )
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"IngestConfig.max_error_share must lie in 0..1, not {self.max_error_share}")
