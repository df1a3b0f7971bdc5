"""URLs and commands as they may be shown."""

from __future__ import annotations

import pytest

from got_core.redacted import redacted_command, redacted_url


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


def test_a_command_keeps_no_secret() -> None:
    command = [
        *("got", "run", "--recipe", "paper", "--tokens", "12"),
        *("--api-key", "K1", "--password=K2", "AWS_SECRET_ACCESS_KEY=K3", "--mlflow", "http://me:K4@host/"),
        "https://store/a.png?X-Amz-Signature=K5&part=1",
    ]
    shown = redacted_command(command)
    assert "K" not in " ".join(shown).replace("AWS_SECRET_ACCESS_KEY", "")
    assert shown[:4] == command[:4]
    assert shown[-1] == "https://store/a.png?X-Amz-Signature=***&part=1"
    assert shown[6:8] == ["--api-key", "***"]
