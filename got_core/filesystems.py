"""Opening the file system behind a URL: the one place that does, so that all readers meet the same faults.

Belongs here: which class serves a URL, literal removal, and telling a store that cannot be reached from a
file that is not there. Not here: what is kept where (`storage`), which files are input (`corpus`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


def local_path(url: str | os.PathLike[str]) -> Path | None:
    """The absolute local path of a plain path or ``file://`` URL; None for every other kind of URL."""
    text = os.fspath(url)
    if "://" in text and not text.startswith("file://"):
        return None
    return Path(os.path.abspath(os.path.expanduser(text.removeprefix("file://"))))


def is_s3(url: str) -> bool:
    """Whether a URL names an S3 store."""
    return url.startswith(("s3://", "s3a://"))


class StoreUnavailableError(RuntimeError):
    """A store could not be asked: no verdict on any file. The message names the store and what to do.

    No OSError on purpose: those are faults of one file, and become a row's verdict.
    """


def open_filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    ``s3://`` is served by :class:`S3`. A local name is taken literally, also one with ``::``.

    Raises what `fsspec.core.url_to_fs` raises: ImportError or ValueError for a protocol that is not known.
    """
    if local := local_path(url):
        return LocalFileSystem(), str(local)
    if not is_s3(url):
        return fsspec.core.url_to_fs(url, **options)
    s3 = _s3_class()
    return s3(**{**s3._get_kwargs_from_urls(url), **options}), s3._strip_protocol(url)


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


@cache
def _s3_class() -> Any:
    """Made when first needed: s3fs is slow to import and comes with the pipeline only."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
    from fsspec.exceptions import FSTimeoutError
    from s3fs import S3FileSystem
    from s3fs.utils import FileExpired

    passing = (
        *(BotoCoreError, aiohttp.ClientError, FSTimeoutError, TimeoutError, ConnectionError),
        RecursionError,  # a 301 that names no region: aiobotocore asks for it, and is sent on again
    )

    def reason(error: BaseException) -> str | None:
        """Why the store did not answer; None where it answered about the object asked for."""
        cause = error if isinstance(error, ClientError) else error.__cause__
        if isinstance(cause, ClientError):
            return _refused(cause.response)
        if isinstance(error, ParamValidationError):
            return None
        return type(error).__name__ if isinstance(error, passing) else None

    class S3(S3FileSystem):
        """s3fs that raises :class:`StoreUnavailableError` where the store was not reached or refused.

        Listings are not cached: an object replaced since would be read under the stamp of the old one. Names
        are literal, for `rm` and its like too, which Ray calls: s3fs takes `[1]` in them for a pattern, and
        what follows `?versionId=` for a version.
        """

        def __init__(self, *args: Any, use_listings_cache: bool = False, **kwargs: Any) -> None:
            super().__init__(*args, use_listings_cache=use_listings_cache, **kwargs)

        def __reduce__(self) -> tuple[Any, ...]:
            return _s3_again, (self.storage_args, self.storage_options)

        def tell(self, error: Exception) -> None:
            """Raise the store's fault, if the error is one."""
            why = None if isinstance(error, StoreUnavailableError) else reason(error)
            if why is not None:
                where = self.endpoint_url or (self.client_kwargs or {}).get("endpoint_url")
                raise StoreUnavailableError(_sentence(where, why)) from error

        def split_path(self, path: str) -> tuple[str, str, str | None]:
            bucket, key, version = super().split_path(path)
            if not self.version_aware and "?versionId=" in path:
                key = self._strip_protocol(path).lstrip("/")[len(bucket) + 1 :]
            return bucket, key, version

        async def _expand_path(
            self, path: Any, recursive: bool = False, maxdepth: int | None = None, assume_literal: bool = True
        ) -> Any:
            return await super()._expand_path(path, recursive, maxdepth, assume_literal=True)

        async def _call_s3(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super()._call_s3(*args, **kwargs)
            except Exception as error:
                self.tell(error)
                raise

        async def _cat_file(self, *args: Any, **kwargs: Any) -> Any:
            try:  # a body is read after the call that brought it
                return await super()._cat_file(*args, **kwargs)
            except Exception as error:
                self.tell(error)
                raise

        async def _get_file(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super()._get_file(*args, **kwargs)
            except Exception as error:
                self.tell(error)
                raise

        def _open(self, *args: Any, **kwargs: Any) -> Any:
            file = super()._open(*args, **kwargs)
            if getattr(file, "cache", None) is not None:
                file.cache.fetcher = self._guarded(file.cache.fetcher, file.path)
            return file

        def _guarded(self, fetch: Callable[[int, int], bytes], path: str) -> Callable[[int, int], bytes]:
            def fetched(start: int, end: int) -> bytes:
                try:
                    return fetch(start, end)
                except (FileExpired, FileNotFoundError) as error:  # it was there when it was opened
                    raise StoreUnavailableError(
                        f"s3://{path} was replaced or deleted while it was read; run it again"
                    ) from error
                except Exception as error:
                    self.tell(error)
                    raise

            return fetched

    return S3


def _s3_again(args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """In another process: the class is made in each, so it cannot be named in a pickle."""
    return _s3_class()(*args, **options)


_ABOUT_THE_OBJECT = {
    *("NoSuchKey", "404", "NoSuchVersion", "InvalidObjectState", "KeyTooLongError", "EntityTooLarge"),
    *("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "InvalidRange", "416"),
    *("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "NoSuchUpload", "MethodNotAllowed", "405"),
}
"""Codes of answers about one object or name; all others say that the store could not be asked."""


def _refused(response: dict[str, Any]) -> str | None:
    found = response.get("Error", {})
    code = str(found.get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode") or "unknown")
    if code in _ABOUT_THE_OBJECT:
        return None
    bucket = f" ({found['BucketName']})" if found.get("BucketName") else ""
    return f"it answered {code}{bucket}: {found.get('Message') or 'no reason given'}"


_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct the URL",
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "InvalidAccessKeyId": "correct the credentials",
    "SignatureDoesNotMatch": "correct the credentials",
    "ExpiredToken": "renew the credentials",
    "AccessDenied": "let these credentials read and write there",
    "403": "let these credentials read and write there",
}


def _sentence(endpoint: str | None, why: str) -> str:
    where = f"{endpoint} (GOT_S3_ENDPOINT)" if endpoint else "AWS (GOT_S3_ENDPOINT is not set)"
    known = next((advice for code, advice in _ADVICE.items() if code in why), None)
    advice = known or "see that it is up and reachable from here"
    return (
        f"the S3 store at {where} could not be used: {why}; {advice}, then run it again: what is done is kept"
    )
