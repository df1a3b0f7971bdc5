"""Opening the file system behind a URL: the one place that does, so that all readers meet the same faults.

Belongs here: which class serves a URL, plain names below one, and literal removal. Not here: faults of stores
(`store_faults`, `s3_filesystem`), what is kept where (`storage`), which files are input (`corpus`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from got_core.store_faults import StoreUnavailableError

__all__ = [
    "StoreUnavailableError",
    "file_stamp",
    "files_of",
    "is_s3",
    "local_path",
    "open_filesystem",
    "plain_name",
    "read_whole",
    "remove",
]


def local_path(url: str | os.PathLike[str]) -> Path | None:
    """The absolute local path of a plain path or ``file://`` URL; None for every other kind of URL."""
    text = os.fspath(url)
    if "://" in text and not text.startswith("file://"):
        return None
    return Path(os.path.abspath(os.path.expanduser(text.removeprefix("file://"))))


def plain_name(name: str) -> str:
    """A name in a storage, as a path below its root. Raises ValueError for what could lead out of it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(
            f"storage name {name!r} is not a plain relative path such as 'captions/images-00000'"
        )
    return "/".join(parts)


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


def read_whole(url: str, most: int, **options: Any) -> bytes:
    """The bytes of a file that is small. Raises FileNotFoundError, or ValueError above ``most`` bytes."""
    fs, path = open_filesystem(url, **options)
    try:
        with fs.open(path, "rb") as file:
            data = file.read(most + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"{url} does not exist or is no file") from error
    if len(data) > most:
        raise ValueError(f"{url} has more than {most >> 20} MiB: split it")
    return data


def files_of(url: str, endings: tuple[str, ...], **options: Any) -> list[str]:
    """The URL itself, or for a folder (a slash at its end) its files with these endings, sorted.

    Files and folders below it whose names begin with ``_`` or ``.`` are left out. Raises FileNotFoundError
    where a folder has none.
    """
    if not url.endswith("/"):
        return [url]
    fs, path = open_filesystem(url, **options)
    root = path.rstrip("/")
    inside = (one[len(root) + 1 :] for one in fs.find(root) if one.startswith(f"{root}/"))
    shown = (one for one in inside if not any(part[:1] in ("_", ".") for part in one.split("/")))
    names = sorted(one for one in shown if one.lower().endswith(endings))
    if not names:
        raise FileNotFoundError(f"{url} holds no {' or '.join(endings)} file")
    return [url + name for name in names]


def file_stamp(info: Mapping[str, Any]) -> str:
    """Size and version of a file by what a listing says of it: its ETag, else when it was changed."""
    changed = next((info[key] for key in ("ETag", "mtime", "created", "LastModified") if info.get(key)), None)
    return f"{info.get('size')} {changed}"


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


def keeps_versions(url: str, **options: Any) -> bool | None:
    """Whether a bucket keeps versions of replaced and deleted objects; None where it does not say."""
    if not is_s3(url):
        return False
    fs, root = open_filesystem(url, **options)
    try:
        return bool(fs.is_bucket_versioned(root.partition("/")[0]))
    except (OSError, StoreUnavailableError):
        return None
