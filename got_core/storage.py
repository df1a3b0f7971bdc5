"""Where tables, documents and model folders are kept: one fsspec URL and nothing else.

Belongs here: reading and writing named things under that URL so that nothing half-written is ever seen, and
the content hash that tells whether a table has changed. Does not belong here: what the tables mean, where the
URL comes from (``got_core.settings``) and reading raw images (``got_core.corpus``).
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

import polars as pl
from fsspec.implementations.local import LocalFileSystem

from got_core.filesystems import file_stamp, is_s3, local_path, open_filesystem, plain_name, remove
from got_core.local_files import (
    alone,
    file_sha256,
    files_below,
    is_temporary,
    remove_unfinished,
    replace_folder,
    sync_file,
    take_place,
    temporary_beside,
    write_local,
)

TABLE_SUFFIX = ".parquet"
DOCUMENT_SUFFIX = ".json"
LISTING_SUFFIX = ".files.json"
_AT_ONCE = 32  # requests to a store side by side


class Storage:
    """Named tables, JSON documents, byte strings and folders under one fsspec URL.

    Names are relative posix paths (``captions/images-00000``); a table's name leaves out ``.parquet``. A
    write on a local file system goes to a temporary name in the same folder and is renamed last; on an object
    store a single put is atomic already. So a reader sees the old thing, the new thing or nothing.

    Args:
        url: ``file:///data/got``, ``s3://bucket/prefix``, ``memory://name`` or a plain path.
        cache_dir: where :meth:`download` keeps copies of remote folders (default ``~/.cache/got``).
        **fs_options: passed to the fsspec file system (for example ``endpoint_url`` for S3).

    Raises:
        ValueError: no file system is installed for the URL's protocol.
    """

    def __init__(self, url: str, *, cache_dir: Path | None = None, **fs_options: Any) -> None:
        local = local_path(url)
        self.url = f"file://{local}" if local else url.rstrip("/")
        self.fs_options = fs_options
        self._cache_dir = cache_dir
        try:
            self._fs, root = open_filesystem(self.url, **fs_options)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"storage URL {url!r} cannot be opened: {error}; use file:// or s3://"
            ) from error
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._is_s3 = is_s3(self.url)

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"

    # Names

    def _path(self, name: str) -> str:
        return f"{self._root}/{plain_name(name)}"

    def _name(self, path: str) -> str:
        return self._fs._strip_protocol(path)[len(self._root) :].lstrip("/")

    def url_of(self, name: str) -> str:
        """The full URL of a name, for links and metadata; it need not exist."""
        return self._fs.unstrip_protocol(self._path(name))

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name, or a table of that name, is there."""
        path = self._path(name)
        if self._is_s3:
            found, all_of_it = self._fs.names(path)
            if found & {path, f"{path}/", path + TABLE_SUFFIX} or all_of_it:
                return bool(found & {path, f"{path}/", path + TABLE_SUFFIX})
        self._fs.invalidate_cache()
        return bool(self._fs.exists(path) or self._fs.exists(path + TABLE_SUFFIX))

    def endings(self, name: str) -> set[str]:
        """Which of a table and a document of that name are there: ``.parquet``, ``.json``."""
        paths = {ending: self._path(name) + ending for ending in (TABLE_SUFFIX, DOCUMENT_SUFFIX)}
        if self._is_s3:
            found, _ = self._fs.names(self._path(name) + ".")
            return {ending for ending, path in paths.items() if path in found}
        self._fs.invalidate_cache()
        return {ending for ending, path in paths.items() if self._fs.isfile(path)}

    def list(self, prefix: str = "") -> builtins.list[str]:
        """Names of files, sorted, with their suffixes (``captions/images-00000.parquet``).

        ``prefix`` is a folder (everything below it, ``""`` for all) or the beginning of the names of files
        that lie directly in one folder (``shards/images-``). Unfinished writes are never listed.
        """
        self._fs.invalidate_cache()
        folder = self._path(prefix) if prefix.strip("/") else self._root
        if not prefix or prefix.endswith("/"):
            return self._names(self._files_below(folder))
        parent, _, beginning = folder.rpartition("/")
        if self._is_s3:  # one request for both questions
            names = self._names(self._fs.find(parent, prefix=beginning))
        else:
            names = self._names(self._files_below(folder if self._fs.isdir(folder) else parent))
        below = [name for name in names if name.startswith(f"{prefix}/")]
        return below or [name for name in names if name.startswith(prefix) and "/" not in name[len(prefix) :]]

    def _names(self, paths: Iterable[str]) -> builtins.list[str]:
        names = (self._name(path) for path in paths)
        return sorted(name for name in names if not is_temporary(name))

    def stamps(self, folder: str) -> dict[str, str]:
        """By name of each file below a folder, what changes when it is written again, in one listing."""
        self._fs.invalidate_cache()
        found = self._files_below(self._path(folder), detail=True)
        return {self._name(path): file_stamp(info) for path, info in found.items()}

    def _files_below(self, folder: str, **how: Any) -> Any:
        parent, _, last = folder.rpartition("/")
        if parent and self._is_s3:  # without a prefix s3fs asks for an empty folder twice more, as a file
            return self._fs.find(parent, prefix=f"{last}/", **how)
        return self._fs.find(folder, **how)

    def folders(self, name: str) -> builtins.list[str]:
        """Names of the folders that lie directly in a folder, sorted, also of those where a write broke off.

        Empty where there is no such folder.
        """
        return self._inside(self._path(name))[0]

    def top(self) -> tuple[builtins.list[str], builtins.list[str]]:
        """Names of the folders, and of the files, that lie directly in the storage; both sorted."""
        return self._inside(self._root)

    def _inside(self, path: str) -> tuple[builtins.list[str], builtins.list[str]]:
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        names = {self._name(entry["name"]): entry["type"] for entry in entries}
        kept = sorted(name for name in names if name and not is_temporary(name))
        return [n for n in kept if names[n] == "directory"], [n for n in kept if names[n] != "directory"]

    def read_bytes(self, name: str) -> bytes:
        """Raises FileNotFoundError, naming the URL, if it is not there."""
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url_of(name)} does not exist") from error

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Files by name, read side by side; those that are not there are left out."""
        wanted = [*names]
        options = {"batch_size": _AT_ONCE} if getattr(self._fs, "async_impl", False) else {}
        # In parts, s3fs asks for each size first.
        options |= {"max_concurrency": 1} if self._is_s3 else {}
        nothing = [None] * len(wanted)
        paths = [self._path(name) for name in wanted]
        found = self._fs.cat_ranges(paths, nothing, nothing, on_error="return", **options) if wanted else []
        for result in found:
            if isinstance(result, Exception) and not isinstance(result, FileNotFoundError):
                raise result
        return {name: data for name, data in zip(wanted, found, strict=True) if isinstance(data, bytes)}

    def delete_many(self, names: Iterable[str]) -> None:
        """Delete files, on S3 a thousand with one request; nothing happens for those that are not there.

        Raises StoreUnavailableError where the store keeps one: the others are deleted.
        """
        paths = [self._path(name) for name in names]
        if self._is_s3:
            self._fs.delete_all(paths)
            return
        for path in paths:
            with suppress(FileNotFoundError):
                self._fs.rm_file(path)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write or replace a file."""
        self._write(self._path(name), lambda file: file.write(data), exclusive=False)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a file unless it is there."""
        path = self._path(name)
        if self._is_local and os.path.exists(path):
            return
        with suppress(FileExistsError):
            self._write(path, lambda file: file.write(data), exclusive=True)

    def read_json(self, name: str) -> Any:
        """Raises FileNotFoundError if it is not there, ValueError if it is not JSON; both name the URL."""
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise ValueError(
                f"{self.url_of(name)} is not valid JSON: {error}; delete it to have it remade"
            ) from error

    def write_json(self, name: str, obj: Any) -> None:
        """Write or replace a JSON document (sorted keys, so that equal objects give equal bytes)."""
        self.write_bytes(name, json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    # Tables

    def read_table(self, name: str) -> pl.DataFrame:
        """Raises FileNotFoundError if there is no such table, ValueError if it is not readable parquet."""
        source = self._table_source(name)
        try:
            return pl.read_parquet(source, glob=False)
        except pl.exceptions.ComputeError as error:
            url = self.url_of(name + TABLE_SUFFIX)
            raise ValueError(
                f"{url} is not a readable parquet file: {error}; delete it to have it remade"
            ) from error

    def scan_table(self, name: str) -> pl.LazyFrame:
        """A lazy frame over a table. Locally only the columns and rows that are used are read."""
        return pl.scan_parquet(self._table_source(name), glob=False)

    def _table_source(self, name: str) -> str | io.BytesIO:
        if not self._is_local:
            return io.BytesIO(self.read_bytes(name + TABLE_SUFFIX))
        path = self._path(name) + TABLE_SUFFIX
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{self.url_of(name + TABLE_SUFFIX)} does not exist")
        return path

    def write_table(self, name: str, frame: pl.DataFrame, *, exclusive: bool = False) -> None:
        """Write or replace a table as zstd parquet.

        With ``exclusive`` an existing table is left as it is and FileExistsError is raised, even if another
        process creates it at the same moment.
        """
        path = self._path(name) + TABLE_SUFFIX
        self._write(path, lambda file: frame.write_parquet(file, compression="zstd"), exclusive=exclusive)

    def delete(self, name: str) -> None:
        """Delete a file, folder or table of that name; nothing happens if there is none."""
        self._fs.invalidate_cache()
        path = self._path(name)
        candidates = (path, path + LISTING_SUFFIX) if self._fs.exists(path) else (path + TABLE_SUFFIX,)
        for candidate in candidates:
            if self._fs.exists(candidate):
                remove(self._fs, candidate)

    def modified(self, name: str) -> datetime | None:
        """When a file was last written (UTC); None where there is none, or its file system does not say."""
        self._fs.invalidate_cache()
        try:
            written = self._fs.modified(self._path(name))
        except (FileNotFoundError, NotImplementedError):
            return None
        return written if written.tzinfo else written.replace(tzinfo=UTC)

    # Folders

    def upload(self, local_dir: Path, name: str) -> None:
        """Copy a local folder to ``name``, replacing what was there: no file of an older copy survives.

        On an object store a listing beside the folder is written last; :meth:`download` refuses a folder
        whose upload did not finish. Raises NotADirectoryError if ``local_dir`` is no folder.
        """
        local_dir = Path(local_dir)
        if not local_dir.is_dir():
            raise NotADirectoryError(f"{local_dir} is not a folder, so it cannot be uploaded as {name!r}")
        if self._is_local:
            replace_folder(local_dir, Path(self._path(name)))
        else:
            self._put_folder(local_dir, name)

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """An empty local folder to be filled, which takes the place of ``name`` where the block ends well.

        On a local file system it lies beside its place, else among temporary files (see :meth:`upload`).
        """
        if not self._is_local:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
                self.upload(Path(folder), name)
            return
        target = Path(self._path(name))
        partial = temporary_beside(target)
        partial.mkdir(parents=True)
        try:
            yield partial
            take_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _put_folder(self, local_dir: Path, name: str) -> None:
        self.write_json(name + LISTING_SUFFIX, {"complete": False, "files": {}})
        sources = {path.relative_to(local_dir).as_posix(): path for path in files_below(local_dir)}
        for relative, source in sources.items():
            self._fs.put_file(str(source), self._path(f"{name}/{relative}"))
        for stale in set(self.list(f"{name}/")) - {f"{name}/{relative}" for relative in sources}:
            self._fs.rm_file(self._path(stale))
        hashes = {relative: file_sha256(source) for relative, source in sorted(sources.items())}
        self.write_json(name + LISTING_SUFFIX, {"complete": True, "files": hashes})

    def download(self, name: str, *, without: tuple[str, ...] = ()) -> Path:
        """A local folder with the files of ``name``: itself for ``file://``, else a copy, one a machine.

        ``without``: ends of names of files that need not be fetched. Of processes that ask for the same at
        once, one fetches it and the others wait. Files that :meth:`upload` put there are compared with the
        hashes that it noted. Treat it as read-only. Raises FileNotFoundError if there is no such folder or
        its upload did not end, OSError naming a file that is not as it was uploaded.
        """
        if self._is_local:
            folder = Path(self._path(name))
            if not folder.is_dir():
                raise FileNotFoundError(f"{self.url_of(name)} is not a folder")
            return folder
        listing, hashed = self._remote_listing(name)
        files = {relative: ukey for relative, ukey in listing.items() if not relative.endswith(without)}
        key = hashlib.sha256(json.dumps([self.url_of(name), files], sort_keys=True).encode()).hexdigest()
        folder = self.cache_root() / key[:32] / PurePosixPath(name).name
        if not folder.is_dir():
            with alone(folder.parent / ".lock") as certain:
                if certain:
                    remove_unfinished(folder)
                if not folder.is_dir():
                    self._get_folder(name, files if hashed else dict.fromkeys(files), folder)
        return folder

    def _remote_listing(self, name: str) -> tuple[dict[str, str], bool]:
        """What tells versions of a folder's files apart, and whether it is the SHA-256 of their bytes."""
        names = self.list(f"{name}/")
        if not names:
            raise FileNotFoundError(f"{self.url_of(name)} is not a folder, or is empty")
        if not self._fs.exists(self._path(name + LISTING_SUFFIX)):  # put there by other means than upload()
            return {entry[len(name) + 1 :]: str(self._fs.ukey(self._path(entry))) for entry in names}, False
        listing = self.read_json(name + LISTING_SUFFIX)
        if not listing["complete"]:
            raise FileNotFoundError(
                f"the upload of {self.url_of(name)} did not finish; run the step that made it again"
            )
        return listing["files"], True

    def _get_folder(self, name: str, files: Mapping[str, str | None], folder: Path) -> None:
        partial = temporary_beside(folder)
        try:
            for relative, expected in files.items():
                self._get_file(f"{name}/{relative}", partial / relative, expected)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process fetched the same folder first
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _get_file(self, name: str, target: Path, expected: str | None) -> None:
        """Fetch a file of a SHA-256 (None: not known); a second time if it came otherwise."""
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            self._fs.get_file(self._path(name), str(target))
            found = expected and file_sha256(target)
            if found == expected:
                sync_file(target)
                return
        raise OSError(
            f"{self.url_of(name)} is not as it was uploaded: its SHA-256 is {found}, not {expected}; run the "
            "step that made it again"
        )

    def cache_root(self) -> Path:
        """Local folder for copies of what is remote, and for what is not there yet."""
        return self._cache_dir or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "got"

    # Writing

    def _write(self, path: str, fill: Callable[[IO[bytes]], object], *, exclusive: bool) -> None:
        if self._is_local:
            write_local(Path(path), fill, exclusive=exclusive)
            return
        buffer = io.BytesIO()
        fill(buffer)
        self._fs.pipe_file(path, buffer.getvalue(), mode="create" if exclusive else "overwrite")
