"""Dagster's SQLite files while a run works."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from got_assets.history_files import quick_files


def file_with(path: Path, mode: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE event (number INTEGER)")
    connection.commit()
    connection.close()
    return path


def settings_of(path: Path) -> int:
    """SQLite's `synchronous` of a connection that SQLAlchemy opens; it also writes a row."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(text("INSERT INTO event VALUES (1)"))
        return connection.execute(text("PRAGMA synchronous")).scalar_one()


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_only_files_with_a_log_below_the_folder_are_quick(tmp_path: Path) -> None:
    inside, outside = file_with(tmp_path / "home" / "a.db", "WAL"), file_with(tmp_path / "b.db", "WAL")
    plain = file_with(tmp_path / "home" / "c.db", "DELETE")
    full, normal = 2, 1
    with quick_files(tmp_path / "home"):
        assert [settings_of(path) for path in (inside, outside, plain)] == [normal, full, full]
        assert log_of(inside).exists(), "it stays open: its log was not written back"
        assert not log_of(outside).exists()
    assert not log_of(inside).exists(), "closed at the end"
    assert settings_of(inside) == full, "and as before"


@pytest.mark.parametrize("count", [1, 9])
def test_rows_of_many_files_are_kept(tmp_path: Path, count: int) -> None:
    files = [file_with(tmp_path / f"{number}.db", "WAL") for number in range(count)]
    with quick_files(tmp_path):
        for path in files * 2:
            settings_of(path)
        still_open = [path for path in files if log_of(path).exists()]
        assert still_open == files[-4:]
    for path in files:
        assert sqlite3.connect(path).execute("SELECT count(*) FROM event").fetchone() == (2,)
