"""Opening the file system behind a URL: the one place that does, so that all readers meet the same faults.

Belongs here: which class serves a URL, and literal removal. Not here: faults of stores (`store_faults`,
`s3_filesystem`), what is kept where (`storage`), which files are input (`corpus`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from got_core.store_faults import StoreUnavailableError

__all__ = ["StoreUnavailableError", "is_s3", "local_path", "open_filesystem", "remove"]


def local_path(url: str | os.PathLike[str]) -> Path | None:
    """The absolute local path of a plain path or ``file://`` URL; None for every other kind of URL."""
    text = os.fspath(url)
    if "://" in text and not text.startswith("file://"):
        return None
    return Path(os.path.abspath(os.path.expanduser(text.removeprefix("file://"))))


def is_s3(url: str) -> bool:
    """Whether a URL names an S3 store."""
    return url.startswith(("s3://", "s3a://"))


def open_filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    ``s3://`` is served by ``s3_filesystem.S3``. A local name is taken literally, also one with ``::``.

    Raises what `fsspec.core.url_to_fs` raises: ImportError or ValueError for a protocol that is not known.
    """
    if local := local_path(url):
        return LocalFileSystem(), str(local)
    if not is_s3(url):
        return fsspec.core.url_to_fs(url, **options)
    from got_core.s3_filesystem import S3  # s3fs is slow to import and comes with the pipeline only

    return S3(**{**S3._get_kwargs_from_urls(url), **options}), S3._strip_protocol(url)


def remove(fs: Any, path: str) -> None:
    """Delete a file, or a folder with all below it, by its literal name: fsspec's own `rm` takes `[1]`, `?`
    and `*` in names for patterns."""
    if not fs.isdir(path):
        fs.rm_file(path)
    elif isinstance(fs, LocalFileSystem):
        shutil.rmtree(path)
    else:
        _remove_below(fs, path)


def _remove_below(fs: Any, path: str) -> None:
    for name in fs.find(path):
        fs.rm_file(name)
    if fs.protocol == "memory":  # object stores keep no folders; this one keeps some, and they count as there
        for name in sorted({path, *fs.find(path, withdirs=True)}, reverse=True):
            with contextlib.suppress(FileNotFoundError):
                fs.rmdir(name)
