"""URLs as they may be shown."""

from __future__ import annotations

import pytest

from got_core.redacted import redacted_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ada:secret@host:5000/x@y", "http://***@host:5000/x@y"),
        ("postgresql://ada:p@ss@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg2://ada@host/db", "postgresql+psycopg2://***@host/db"),
        ("http://host:5000/a", "http://host:5000/a"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("no http://a:b@c/ nor http://d@e", "no http://***@c/ nor http://***@e"),
        ("sqlite:////home/a@b.db", "sqlite:////home/a@b.db"),
    ],
)
def test_names_and_passwords_are_left_out(url: str, shown: str) -> None:
    assert redacted_url(url) == shown
