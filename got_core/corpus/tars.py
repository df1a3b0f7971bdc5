"""WebDataset tars: pictures and the licence beside them, read once from front to back, nothing written.

Belongs here: members, samples, and what a hostile archive may try. Does not belong here: what a picture's
bytes mean (``decode``) and where they are kept (``store``).
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.sieve import Sieve, is_ignored
from got_core.corpus.tables import LICENCE_COLUMNS, SOURCE_COLUMNS, Unpacked
from got_core.store_faults import is_machine_fault, machine_fault

_BUFFER = 1024**2
_HEADERS: Any = tarfile  # the kinds of header errors are public names that type stubs leave out
_HEADER_LIMIT = _JSON_LIMIT = 1024**2
_SMALL = 64 * 1024**2
"""Bytes after decompression below which nobody minds how well an archive was compressed."""

_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def read_tar(
    file: IO[bytes], path: str, config: IngestConfig, sieve: Sieve | None = None
) -> Iterator[Unpacked]:
    """Every picture of a tar (plain or gzip), in order; members that are refused come with their reason.

    Names of members are shown, never used as paths; links are not followed. A JSON member of a picture's own
    key may hold licence (license) and source_name. What else is no input is counted by the sieve. Damage or a
    limit ends the archive with one last item that says so; it raises nothing but StoreUnavailableError. In a
    plain tar, every picture comes with the place of its bytes.
    """
    members, sample, sieve = 0, _Sample(), sieve or Sieve(config)
    try:
        reader: Any = _BoundedReader(file, config)
        # Zero blocks are skipped: tars may be strung together.
        with tarfile.open(
            fileobj=reader, mode="r|", bufsize=_BUFFER, tarinfo=_Member, ignore_zeros=True
        ) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else a list of all of them grows
                members += 1
                if members > config.max_archive_members:
                    raise ImageError("archive_limit", f"more than {config.max_archive_members} members")
                if member.isdir() or not (_is_metadata(member, config) or sieve.accepts(member.name)):
                    continue
                if sample.key != _key(member.name) or sample.full(config):
                    yield from sample.finish()
                    sample = _Sample(_key(member.name))
                _add(sample, tar, member, path, config, reader.is_plain)
            yield from sample.finish()
    except ImageError as error:
        yield from sample.finish()
        yield Unpacked(path, error=ImageError(error.reason, f"after {members} members: {error.detail}"))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and is_machine_fault(error):
            raise machine_fault(error, f"{path} cannot be read") from error
        yield from sample.finish()
        text = " ".join(f"{type(error).__name__} {error}".split())[:200]
        yield Unpacked(path, error=ImageError("bad_archive", f"after {members} members: {text}"))


class _Sample:
    """The pictures of one key, kept until its JSON can no longer come."""

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.found: list[Unpacked] = []
        self.metadata: dict[str, Any] = {}
        self.error: ImageError | None = None

    def full(self, config: IngestConfig) -> bool:
        """Whether waiting for the JSON would take too much memory."""
        return len(self.found) >= 16 or sum(len(one.data or b"") for one in self.found) > config.max_bytes

    def finish(self) -> Iterator[Unpacked]:
        found, self.found = self.found, []
        source = _metadata_text(self.metadata, SOURCE_COLUMNS)
        licence = _metadata_text(self.metadata, LICENCE_COLUMNS)
        for one in found:
            if self.error and not one.error:
                one = one._replace(data=None, error=self.error)
            yield one._replace(source=source, licence=licence)


def _add(
    sample: _Sample,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    config: IngestConfig,
    plain: bool,
) -> None:
    name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    origin = f"{path}//{name}"
    if _is_metadata(member, config):
        try:
            sample.metadata = _read_metadata(tar, member)
        except ImageError as error:
            sample.error = error
    elif refused := _refusal(member, config):
        sample.found.append(Unpacked(origin, error=refused))
    else:
        offset = member.offset_data if plain else None
        sample.found.append(Unpacked(origin, _read(tar, member), name=name, offset=offset))


def _is_metadata(member: tarfile.TarInfo, config: IngestConfig) -> bool:
    """Whether a member is the JSON beside pictures."""
    return member.isreg() and member.name.lower().endswith(".json") and not is_ignored(member.name, config)


def _refusal(member: tarfile.TarInfo, config: IngestConfig) -> ImageError | None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        return ImageError(
            "outside_root", f"a member called {member.name!r:.200} could lead out of the archive"
        )
    if member.issym() or member.islnk():
        return ImageError("not_a_file", f"a link to {member.linkname!r:.200}, which is not followed")
    if not member.isreg():
        return ImageError("not_a_file", "a pipe, device or other special member")
    if member.size > config.max_bytes:
        return ImageError("too_large", f"{member.size} bytes, limit {config.max_bytes}")
    return None


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise ImageError("bad_archive", f"{member.name!r:.200} ends early")
    return data


def _read_metadata(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    if member.size > _JSON_LIMIT:
        raise ImageError("bad_metadata", f"JSON of {member.size} bytes, limit {_JSON_LIMIT}")
    try:
        metadata = json.loads(_read(tar, member))
    except (ValueError, RecursionError) as error:
        raise ImageError("bad_metadata", f"{type(error).__name__} {error}"[:200]) from error
    if not isinstance(metadata, dict):  # a list of tags, say: nothing about licence and source
        return {}
    return {str(key).lower(): value for key, value in metadata.items()}


def _metadata_text(metadata: dict[str, Any], names: tuple[str, ...]) -> str | None:
    value = next((metadata[name] for name in names if metadata.get(name)), None)
    return value.strip() or None if isinstance(value, str) else None


def _key(name: str) -> str:
    """WebDataset's key: folder and name up to the first dot of the name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


class _Member(tarfile.TarInfo):
    """Headers that make ``tarfile`` read what it should not, or end early without a word, are errors."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        ended = getattr(tar, "_ended", False)
        tar._ended = False  # type: ignore[attr-defined]
        try:
            return super().fromtarfile(tar)
        except _HEADERS.EOFHeaderError:
            tar._ended = True  # type: ignore[attr-defined]
            raise
        except (
            _HEADERS.InvalidHeaderError,
            _HEADERS.TruncatedHeaderError,
            _HEADERS.SubsequentHeaderError,
        ) as error:
            raise ImageError("bad_archive", f"header: {error}") from error
        except _HEADERS.EmptyHeaderError as error:
            if ended:
                raise
            raise ImageError("bad_archive", "it ends without the empty blocks of a whole tar") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENDED and self.size > _HEADER_LIMIT):
            raise ImageError("decompression_bomb", f"a header of {self.size} bytes, limit {_HEADER_LIMIT}")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ImageError("bad_archive", f"{self.name!r:.200} is sparse, which is not read")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _sparse(self, *_: object) -> None:
        raise ImageError("bad_archive", f"{self.name!r:.200} is sparse, which is not read")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


class _BoundedReader:
    """An archive's bytes after decompression, counted: never more than the limits."""

    def __init__(self, file: IO[bytes], config: IngestConfig) -> None:
        self._file, self._config, self._size = file, config, 0
        start = file.read(2)
        file.seek(0)
        self._gzip = gzip.GzipFile(fileobj=file) if start == b"\x1f\x8b" else None

    @property
    def is_plain(self) -> bool:
        """Whether the bytes lie in the file as they are."""
        return self._gzip is None

    def read(self, size: int) -> bytes:
        data = (self._gzip or self._file).read(size)
        self._size += len(data)
        limit = self._config.max_archive_bytes
        if self._size > limit:
            raise ImageError("archive_limit", f"more than {limit} bytes")
        if self._gzip and self._size > max(_SMALL, self._config.max_expansion * self._file.tell()):
            raise ImageError("decompression_bomb", f"{self._file.tell()} bytes grow to over {self._size}")
        return data
