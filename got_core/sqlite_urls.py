"""Database URLs of SQLite files, escaped and read as SQLAlchemy does: it decodes `%20`, and cuts at `?`.

Belongs here: path to URL and back. Not here: what is in the database.
"""

from __future__ import annotations

from pathlib import Path


def sqlite_url(path: Path) -> str:
    """`sqlite:///…` of an absolute path, whatever characters it has; escaped only where it has to be.

    Beside an escaped path MLflow 3.17 makes an empty folder under the escaped name.
    """
    from sqlalchemy import URL, make_url

    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    return URL.create("sqlite", database=str(path)).render_as_string()


def sqlite_path(url: str) -> Path | None:
    """The absolute path of the file behind a `sqlite:///` URL; None for every other URL."""
    if not url.startswith("sqlite:///"):
        return None
    from sqlalchemy import make_url

    return Path(make_url(url).database or "").absolute()
