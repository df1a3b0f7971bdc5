"""S3 through s3fs, with names taken literally and faults of the store kept apart from those of one object.

Belongs here: what s3fs does otherwise. Not here: which URLs it serves (`filesystems`), what the store's codes
mean (`store_faults`). Slow to import: `filesystems` does so for the first S3 URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from fsspec.asyn import sync, sync_wrapper
from fsspec.exceptions import FSTimeoutError
from s3fs import S3FileSystem
from s3fs.core import _error_wrapper, version_id_kw
from s3fs.utils import FileExpired

from got_core.store_faults import StoreUnavailableError, refusal, unavailable

_NO_ANSWER = (
    *(BotoCoreError, aiohttp.ClientError, FSTimeoutError, TimeoutError, ConnectionError),
    RecursionError,  # a 301 that names no region: aiobotocore asks for it, and is sent on again
)


_NOT_AS_EXPECTED = {
    *("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"),
}
"""Codes of a conditional write that was not done."""
_NO_BULK_DELETE = {"NotImplemented", "MethodNotAllowed", "501", "405"}


class S3(S3FileSystem):
    """s3fs that raises :class:`StoreUnavailableError` where the store was not reached or refused.

    Listings are not cached: an object replaced since would be read under the stamp of the old one. Names are
    literal, for `rm` and its like too, which Ray calls: s3fs takes `[1]` in them for a pattern, and what
    follows `?versionId=` for a version.
    """

    def __init__(self, *args: Any, use_listings_cache: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, use_listings_cache=use_listings_cache, **kwargs)

    def raise_if_unavailable(self, error: Exception) -> None:
        """Raise StoreUnavailableError if the error is the store's fault."""
        why = None if isinstance(error, StoreUnavailableError) else _store_fault(error)
        if why is not None:
            endpoint = self.endpoint_url or (self.client_kwargs or {}).get("endpoint_url")
            raise unavailable(endpoint, why) from error

    def split_path(self, path: str) -> tuple[str, str, str | None]:
        """Bucket, key and version; no version is read off the key of an unversioned file system."""
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
            self.raise_if_unavailable(error)
            raise

    async def _cat_file(
        self, path: str, version_id: str | None = None, start: Any = None, end: Any = None, **kwargs: Any
    ) -> Any:
        try:  # a body is read after the call that brought it
            if start is None and end is None and version_id is None:  # s3fs asks for the size first
                data, info = await self._read_object(path, self.default_block_size)
                if info["size"] <= self.default_block_size:
                    return data
            return await super()._cat_file(path, version_id, start, end, **kwargs)
        except Exception as error:
            self.raise_if_unavailable(error)
            raise

    async def _read_object(self, path: str, most: int) -> tuple[bytes, dict[str, Any]]:
        """The bytes of an object and what `info` says of it, in a single request; no bytes where there are
        more than ``most``. Raises as `cat_file`."""
        bucket, key, version = self.split_path(path)

        async def read() -> tuple[bytes, dict[str, Any]]:
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **version_id_kw(version))
            size, body = answer.get("ContentLength"), answer["Body"]
            try:
                data = await body.read() if size is None or size <= most else b""
            finally:
                body.close()
            said = {name: answer.get(name, "") for name in ("ETag", "LastModified")}
            size = len(data) if size is None else size
            return data, {"name": f"{bucket}/{key}", "type": "file", "size": size, **said}

        try:
            return await _error_wrapper(read, retries=self.retries)
        except Exception as error:
            self.raise_if_unavailable(error)
            raise

    read_object = sync_wrapper(_read_object)

    async def _read_tail(self, path: str, most: int) -> tuple[bytes, int]:
        """The last ``most`` bytes of an object, or all of it, and its size, in one request. Raises as
        `cat_file`."""
        bucket, key, version = self.split_path(path)

        async def read() -> tuple[bytes, int]:
            answer = await self._call_s3(
                "get_object", Bucket=bucket, Key=key, Range=f"bytes=-{most}", **version_id_kw(version)
            )
            async with answer["Body"] as body:
                data = await body.read()
            _, _, size = (answer.get("ContentRange") or "").rpartition("/")
            return data, int(size or len(data))

        try:
            return await _error_wrapper(read, retries=self.retries)
        except Exception as error:
            self.raise_if_unavailable(error)
            raise

    read_tail = sync_wrapper(_read_tail)

    async def _names(self, start: str) -> tuple[set[str], bool]:
        """What lies directly in a folder and begins with the path ``start``, folders with a slash behind, and
        whether that is all of it: in a single request."""
        bucket, key, _ = self.split_path(start)
        found = await self._call_s3("list_objects_v2", Bucket=bucket, Prefix=key, Delimiter="/")
        files = (one["Key"] for one in found.get("Contents", ()))
        folders = (one["Prefix"] for one in found.get("CommonPrefixes", ()))
        return {f"{bucket}/{name}" for name in (*files, *folders)}, not found.get("IsTruncated")

    names = sync_wrapper(_names)

    def pages(self, start: str) -> Iterator[list[tuple[str, int, datetime]]]:
        """Path, size and time of change of all objects whose path begins so, a request's worth at a time."""
        bucket, key, _ = self.split_path(start)
        prefix = key if start.endswith("/") and key.endswith("/") else f"{key}/" if key else ""
        more: dict[str, str] = {}
        while True:
            found = sync(self.loop, self._call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            objects = found.get("Contents", ())
            yield [(f"{bucket}/{one['Key']}", int(one["Size"]), one["LastModified"]) for one in objects]
            if not found.get("IsTruncated"):
                return
            more = {"ContinuationToken": found["NextContinuationToken"]}

    def delete_objects(self, paths: list[str]) -> dict[str, str]:
        """Delete up to 1000 objects of one bucket, with one request where the store can; those that could not
        be deleted, with the store's words. s3fs keeps these to itself."""
        return sync(self.loop, self._delete_objects, paths)

    def delete_all(self, paths: list[str]) -> None:
        """Delete objects, a thousand with one request.

        Raises StoreUnavailableError where the store keeps one; the others are deleted.
        """
        faults: dict[str, str] = {}
        for start in range(0, len(paths), 1000):
            faults |= self.delete_objects(paths[start : start + 1000])
        if faults:
            name, why = next(iter(faults.items()))
            raise StoreUnavailableError(
                f"s3://{name} could not be deleted, nor could {len(faults) - 1} others: {why}. Let the "
                "credentials delete (s3:DeleteObject), look for a lock or a policy, and run it again"
            )

    async def _delete_objects(self, paths: list[str]) -> dict[str, str]:
        if not paths:
            return {}
        bucket = self.split_path(paths[0])[0]
        for path in paths:
            self.invalidate_cache(path)
        keys = [{"Key": self.split_path(path)[1]} for path in paths]
        try:
            found = await self._call_s3(
                "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True}
            )
        except (StoreUnavailableError, OSError) as error:
            if not _NO_BULK_DELETE & _codes_of(error):
                raise
            for path in paths:
                await self._rm_file(path)
            return {}
        faults = found.get("Errors", ())
        return {f"{bucket}/{one['Key']}": f"{one.get('Code')}: {one.get('Message')}" for one in faults}

    async def _get_file(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._get_file(*args, **kwargs)
        except Exception as error:
            self.raise_if_unavailable(error)
            raise

    def read_with_etag(self, path: str) -> tuple[bytes, str] | None:
        """An object's bytes and ETag in one request; None where there is none."""
        return sync(self.loop, self._read_with_etag, path)

    async def _read_with_etag(self, path: str) -> tuple[bytes, str] | None:
        bucket, key, _ = self.split_path(path)
        try:
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key)
            async with answer["Body"] as body:
                return await body.read(), answer["ETag"]
        except FileNotFoundError:
            return None
        except Exception as error:
            self.raise_if_unavailable(error)
            raise

    def write_if(self, path: str, data: bytes, etag: str | None) -> str | None:
        """Put an object where there is still one of that ETag (None: none). Its new ETag; None where not."""
        return sync(self.loop, self._write_if, path, data, etag)

    async def _write_if(self, path: str, data: bytes, etag: str | None) -> str | None:
        bucket, key, _ = self.split_path(path)
        match = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            answer = await self._call_s3("put_object", Bucket=bucket, Key=key, Body=data, **match)
        except OSError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _NOT_AS_EXPECTED:
                return None
            raise
        self.invalidate_cache(path)
        return answer["ETag"]

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
                self.raise_if_unavailable(error)
                raise

        return fetched


def _codes_of(error: BaseException | None) -> set[str]:
    """The store's code and HTTP status that an error comes from; none where it comes from no answer."""
    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    if error is None:
        return set()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return {str(error.response.get("Error", {}).get("Code")), str(status)}


def _store_fault(error: BaseException) -> str | None:
    """Why the store did not answer; None where it answered about the object itself."""
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        return refusal(cause.response)
    if isinstance(error, ParamValidationError):
        return None
    return type(error).__name__ if isinstance(error, _NO_ANSWER) else None
