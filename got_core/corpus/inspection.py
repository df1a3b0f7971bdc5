"""What one file's bytes are, and many of them at once.

Belongs here: identity, size and fingerprint of a picture, or the reason why it is none; the pool that works
through many. Does not belong here: what becomes of the results (``ingest``, ``pairs``).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

from got_core.corpus.ahead import IO_THREADS, ahead
from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError, decode_image, sniff_format
from got_core.corpus.duplicates import Fingerprint, fingerprint
from got_core.corpus.reader import ImageReader, Stamp

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all), from the calling thread."""

T = TypeVar("T")
R = TypeVar("R")

_DECODING = threading.BoundedSemaphore(min(8, os.cpu_count() or 1))
"""Pictures decoded at once: more would take memory and be no faster. Files are read by more threads."""


class Inspected(NamedTuple):
    """What one file turned out to be; ``error`` is None for a good picture."""

    image_id: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    print: Fingerprint | None = None
    error: ImageError | None = None


def inspect_file(reader: ImageReader, path: str, expected: Stamp | None = None) -> Inspected:
    """Read and decode one file. Raises nothing for a bad file: the reason is in the result."""
    try:
        data = reader.read_bytes(path, expected)
    except ImageError as error:
        return Inspected(error=bare(error))
    return inspect_bytes(data, reader.config)


def inspect_bytes(data: bytes, config: IngestConfig) -> Inspected:
    """Decode one file's bytes. Raises nothing for a bad file: the reason is in the result."""
    known = Inspected(image_id=hashlib.sha256(data).hexdigest(), format=sniff_format(data), bytes=len(data))
    try:
        with _DECODING:
            picture = decode_image(data, config)
            print = fingerprint(picture)
    except ImageError as error:
        return known._replace(error=bare(error))
    return known._replace(width=picture.width, height=picture.height, print=print)


def bare(error: ImageError) -> ImageError:
    """The error without its traceback, which would keep the file's bytes and pixels in memory."""
    return ImageError(error.reason, error.detail)


def bounded_map(
    function: Callable[[T], R],
    items: Iterable[T],
    config: IngestConfig,
    total: int,
    progress: Progress | None,
) -> Iterator[R]:
    """Results in order, from a thread pool (decoding and hashing release the interpreter lock).

    At most two items a thread are under way, so memory does not grow with the shard. `total` is passed to
    `progress`; where there turn out to be more, their number.
    """
    threads = config.workers or IO_THREADS
    with closing(ahead(function, items, threads, 2 * threads)) as results:
        for done, result in enumerate(results, start=1):
            yield result
            if progress:
                progress(done, max(done, total))
