"""Columns of the ingestion tables: type and one line each. Belongs here: names, types and their check."""

from __future__ import annotations

import polars as pl

Columns = dict[str, tuple[pl.DataType, str]]

TIME = pl.Datetime("us", "UTC")

IMAGE_LIST: Columns = {
    "path": (
        pl.String(),
        "the file (also a tar or parquet file), relative to the raw folder, with `name://` before it where "
        "several inputs are listed; or the URL",
    ),
    "bytes": (pl.Int64(), "size when listed; 0 for a URL"),
    "modified": (TIME, "time of last change when listed; the epoch for a URL"),
    "problem": (pl.String(), "what made it impossible to list (reason: detail); null = fine"),
    "kind": (pl.String(), "file, url, tar or parquet"),
    "first": (pl.Int64(), "first row of a parquet file's part, from 0; null for all else"),
    "count": (pl.Int64(), "rows of a parquet file's part; null for all else"),
    "source": (pl.String(), "where it comes from, by table or list of inputs; null = not stated there"),
    "licence": (pl.String(), "licence, by table or list of inputs; null = not stated there"),
    "etag": (pl.String(), "the store's tag of the content when listed; null where it has none"),
}

FETCHED: Columns = {
    "url": (pl.String(), "address as listed"),
    "path": (pl.String(), "what opens the stored picture"),
}

EDIT_LIST: Columns = {
    "source": (pl.String(), "source image, relative to the pair table's folder"),
    "target": (pl.String(), "target image, relative to the pair table's folder"),
    "instruction": (pl.String(), "what changes from source to target"),
    "licence": (pl.String(), "licence of the pair; null = not stated"),
    "source_name": (pl.String(), "where the pair comes from; null = not stated"),
    "row": (pl.Int64(), "first row of the pair table with this content (1 = first below the header)"),
    "rows": (pl.Int32(), "how many rows of the pair table had this content"),
    "problem": (pl.String(), "why the line could not be read (reason: detail); null = fine"),
}

RAW_IMAGES: Columns = {
    "image_id": (pl.String(), "SHA-256 of the file's bytes; null if they could not be read"),
    "path": (
        pl.String(),
        "what opens the picture: the relative posix path of the first file with these bytes, "
        "`tar+member://ARCHIVE//NAME#OFFSET+SIZE+SHA256` where it is read from a tar, or `store://...` where "
        "the bytes were fetched or unpacked into the storage",
    ),
    "paths": (
        pl.List(pl.String()),
        "all files, URLs, archive//members and table#rows with these bytes (exact duplicates are one row)",
    ),
    "format": (pl.String(), "JPEG, PNG, WEBP ... from the first bytes; null if unknown"),
    "width": (pl.Int32(), "pixels, after EXIF rotation"),
    "height": (pl.Int32(), "pixels, after EXIF rotation"),
    "bytes": (pl.Int64(), "size of the file"),
    "phash": (pl.String(), "64-bit perceptual hash (DCT of the luminance), 16 hex digits"),
    "colors": (pl.Binary(), "mean colours of a 4 x 4 grid, 48 bytes RGB"),
    "near_duplicate_of": (
        pl.String(),
        "image_id of the shard's picture that this one nearly repeats; null = none",
    ),
    "source": (pl.String(), "where the image comes from"),
    "licence": (pl.String(), "licence of the image, several where copies state several; null = not stated"),
    "error": (pl.String(), "why it is quarantined (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}

EDIT_PAIRS: Columns = {
    "pair_id": (
        pl.String(),
        "SHA-256 of source_id|target_id|instruction (of the paths where an image is unreadable)",
    ),
    "source_id": (pl.String(), "SHA-256 of the source's bytes; null if they could not be read"),
    "target_id": (pl.String(), "SHA-256 of the target's bytes; null if they could not be read"),
    "source_path": (pl.String(), "source image, relative to the pair table's folder"),
    "target_path": (pl.String(), "target image, relative to the pair table's folder"),
    "instruction": (pl.String(), "what changes from source to target"),
    "source_phash": (pl.String(), "64-bit perceptual hash of the source, 16 hex digits"),
    "target_phash": (pl.String(), "64-bit perceptual hash of the target, 16 hex digits"),
    "source_colors": (pl.Binary(), "mean colours of a 4 x 4 grid of the source, 48 bytes RGB"),
    "target_colors": (pl.Binary(), "mean colours of a 4 x 4 grid of the target, 48 bytes RGB"),
    "width": (pl.Int32(), "pixels of the source, after EXIF rotation"),
    "height": (pl.Int32(), "pixels of the source, after EXIF rotation"),
    "target_width": (pl.Int32(), "pixels of the target, after EXIF rotation"),
    "target_height": (pl.Int32(), "pixels of the target, after EXIF rotation"),
    "source": (pl.String(), "where the pair comes from"),
    "licence": (pl.String(), "licence of the pair; null = not stated"),
    "rows": (pl.Int32(), "rows of the pair table folded into this one"),
    "error": (pl.String(), "why it is quarantined (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}

SHARD_INDEX: Columns = {
    "sample_id": (pl.String(), "chain_id"),
    "kind": (pl.String(), "t2i or edit"),
    "image_id": (pl.String(), "SHA-256 of the target image's bytes"),
    "source_id": (pl.String(), "SHA-256 of the source image's bytes; null for t2i"),
    "pair_id": (pl.String(), "id of the edit pair; null for t2i"),
    "source": (pl.String(), "where the images come from"),
    "licence": (pl.String(), "licence of the images; null = not stated"),
    "tar": (
        pl.String(),
        "storage name of the tar; null where the sample could not be written, or its picture is read from a "
        "tar given as input",
    ),
    "offset": (pl.Int64(), "byte of the tar at which the sample begins"),
    "size": (pl.Int64(), "bytes of the sample, with headers and padding"),
    "digest": (pl.String(), "SHA-256 of the manifest's row: a changed row is written again"),
    "error": (pl.String(), "why it could not be written (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}


def polars_schema(columns: Columns) -> dict[str, pl.DataType]:
    """Column names and types, in order."""
    return {name: dtype for name, (dtype, _) in columns.items()}


def frame_of(rows: list[dict], columns: Columns) -> pl.DataFrame:
    """A frame of exactly these columns; keys that a row leaves out are null."""
    return pl.DataFrame(rows, schema=polars_schema(columns), orient="row")


def check_schema(frame: pl.DataFrame, columns: Columns, name: str) -> pl.DataFrame:
    """The frame itself if its columns and types are as declared; else a ValueError naming the difference."""
    expected, found = polars_schema(columns), dict(frame.schema)
    if found != expected:
        wrong = {key: (expected.get(key), found.get(key)) for key in expected.keys() | found.keys()}
        unlike = {key: pair for key, pair in sorted(wrong.items()) if pair[0] != pair[1]}
        raise ValueError(
            f"table {name} does not have its declared columns (expected, found): {unlike or 'order'}"
        )
    return frame
