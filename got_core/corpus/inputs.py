"""What GOT_RAW names: one folder, archives and tables by name or pattern, or a list of several such inputs.

Belongs here: telling the kinds apart by name, and reading the list. Does not belong here: what lies in them
(``listing``) and opening it (``reader``, ``tars``, ``tables``, ``fetch``).
"""

from __future__ import annotations

import os
import posixpath
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from got_core.filesystems import StoreUnavailableError, is_s3, open_filesystem
from got_core.storage import local_path

ARCHIVES = (".tar", ".tar.gz", ".tgz")
TABLES = (".parquet", ".csv", ".tsv")
LIST_SUFFIX = ".toml"
STORE = "store"
"""Prefix of paths of pictures kept in the storage; no input may be called that."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_WILD = re.compile(r"[*?\[]")
_ON_S3 = ("inventory", "events")
_FIELDS = {"raw", "licence", "source", "inventory", "events"}


@dataclass(frozen=True, kw_only=True)
class Input:
    """One place that pictures come from."""

    base: str
    """Folder or URL that paths are relative to."""
    pattern: str | None = None
    """Tars and tables: name or glob pattern below the base. None: every file below the base."""
    name: str = ""
    """Its name in the list of inputs; empty where GOT_RAW is the only one."""
    source: str | None = None
    """Goes with every row of it; None: as the recipe says."""
    licence: str | None = None
    """Goes with every row of it; None: as the recipe says."""
    inventory: str | None = None
    """On S3: where its inventory is published, which is read in place of listing the prefix."""
    events: str | None = None
    """On S3: the prefix of objects that hold bucket events, which are read beside the listing."""
    options: dict[str, Any] = field(default_factory=dict)
    """For the fsspec file system."""

    def path_of(self, relative: str) -> str:
        """The path by which tables know a file of this input."""
        return f"{self.name}://{relative}" if self.name else relative


def inputs_of(raw_url: str | os.PathLike[str], fs_options: dict | None = None) -> list[Input]:
    """The inputs that GOT_RAW names, in order.

    A name (or glob pattern) ending in .tar, .tar.gz, .tgz, .parquet, .csv or .tsv means archives or tables,
    one ending in .toml a list of inputs, all else a folder or prefix. ``fs_options`` go to S3 URLs of a list
    too.

    Raises:
        FileNotFoundError: the list does not exist.
        ValueError: the list is not readable or holds an entry that is none, naming file and entry.
    """
    local = local_path(raw_url)
    url, options = str(local or os.fspath(raw_url).rstrip("/")), fs_options or {}
    if url.endswith(LIST_SUFFIX) and not (local and local.is_dir()):
        return _read_list(url, options)
    return [_input(url, options)]


def _input(url: str, options: dict[str, Any], **more: Any) -> Input:
    local = local_path(url)
    if not url.lower().endswith(ARCHIVES + TABLES) or (local and local.is_dir()):
        return Input(base=url, options=options, **more)
    if local and local.exists():  # as it stands, whatever characters it has
        return Input(base=str(local.parent), pattern=local.name, options=options, **more)
    parts = url.split("/")
    wild = next((index for index in range(len(parts)) if _is_pattern(parts, index, options)), len(parts) - 1)
    return Input(base="/".join(parts[:wild]), pattern="/".join(parts[wild:]), options=options, **more)


def _is_pattern(parts: list[str], index: int, options: dict[str, Any]) -> bool:
    """Whether a part of a URL stands for several names; a folder that is called so does not."""
    if not _WILD.search(parts[index]):
        return False
    if index == len(parts) - 1:
        return True
    folder = "/".join(parts[: index + 1])
    fs, path = open_filesystem(folder, **(options if "://" in folder else {}))
    try:
        return not fs.isdir(path)
    except StoreUnavailableError:  # reported where something is read
        return True


def _read_list(url: str, options: dict[str, Any]) -> list[Input]:
    try:
        fs, path = open_filesystem(url, **(options if "://" in url else {}))
        entries = tomllib.loads(fs.cat_file(path).decode())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the list of inputs {url} does not exist; set GOT_RAW to it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the list of inputs {url} is not TOML: {error}") from error
    if not entries:
        raise ValueError(f'the list of inputs {url} is empty; it needs [name] and raw = "..." for each input')
    return [_entry(url, name, entry, options) for name, entry in entries.items()]


def _entry(url: str, name: str, entry: Any, options: dict[str, Any]) -> Input:
    where = f"list of inputs {url}, entry [{name}]"
    if not _NAME.fullmatch(name) or name == STORE:
        raise ValueError(f"{where}: a name has small letters, digits, '.', '_' and '-', and is not {STORE!r}")
    if not isinstance(entry, dict) or not entry.get("raw"):
        raise ValueError(f'{where} lacks raw = "folder, pattern or table"')
    unknown = entry.keys() - _FIELDS
    if unknown or not all(isinstance(value, str) for value in entry.values()):
        raise ValueError(f"{where} takes the texts {', '.join(sorted(_FIELDS))} and nothing else")
    raw = entry["raw"]
    if "://" not in raw and not os.path.isabs(os.path.expanduser(raw)):
        raw = posixpath.join(posixpath.dirname(url), raw)
    more = {"name": name, "source": entry.get("source", name), "licence": entry.get("licence")}
    target = str(local_path(raw) or raw.rstrip("/"))
    more |= {field: _on_s3(entry[field], field, target, where) for field in _ON_S3 if field in entry}
    for other in ("raw", "inventory"):
        if "events" in entry and _is_below(entry.get(other, ""), entry["events"]):
            raise ValueError(f"{where}: {other} lies below events; give events a prefix of its own")
    return _input(target, options if is_s3(target) else {}, **more)


def _is_below(url: str, folder: str) -> bool:
    place, above = (one.partition("://")[2].rstrip("/") for one in (url, folder))
    return f"{place}/".startswith(f"{above}/")


def _on_s3(url: str, field: str, raw: str, where: str) -> str:
    """A URL that finds objects of a bucket."""
    if not is_s3(raw):
        raise ValueError(f"{where} has {field}, which is for raw on S3 (s3://...), not {raw}; leave it out")
    if not is_s3(url) or not url.partition("://")[2].strip("/"):
        raise ValueError(f"{where}: {field} is a prefix on S3 such as s3://bucket/{field}/, not {url!r}")
    return url.rstrip("/")
