"""Dagster's SQLite files, written without waiting for the disk at each of thousands of events.

Dagster opens a file anew for every event. The last connection that closes a file writes its log (WAL) back,
which waits for the disk several times, as does each commit. Here a file that was used lately stays open, and
commits wait no more: what SQLite calls `synchronous=NORMAL`, which with WAL cannot leave a broken file behind
when the power fails; the newest events may be missing then, and what they tell of is made again.

Belongs here: settings of connections to files below a folder. Not here: what is in the files (`event_log`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

_KEPT = 4
"""Files that stay open: those that all runs share, and that of the run under way."""


class _OpenFiles:
    """The files below a folder that were used last, each held open by a connection that does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    def on_connect(self, connection: Any, _: Any) -> None:
        """Called by SQLAlchemy with every new connection of any kind."""
        if not isinstance(connection, sqlite3.Connection):
            return
        path = next((row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"), "")
        if not path or not Path(path).resolve().is_relative_to(self._folder):
            return
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            return
        connection.execute("PRAGMA synchronous=NORMAL")
        self._keep(path)

    def _keep(self, path: str) -> None:
        with self._lock:
            if path not in self._kept:
                spare = sqlite3.connect(path, check_same_thread=False)
                spare.execute("PRAGMA schema_version").fetchone()  # only now the file is open
                self._kept[path] = spare
            self._kept.move_to_end(path)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)[1].close()

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1].close()


class quick_files:
    """A context in which connections of this process to SQLite files below `folder` are quick."""

    def __init__(self, folder: Path) -> None:
        self._files = _OpenFiles(folder)

    def __enter__(self) -> None:
        event.listen(Engine, "connect", self._files.on_connect)

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "connect", self._files.on_connect)
        self._files.close()
