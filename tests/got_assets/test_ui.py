"""`make ui`: both servers answer, and end with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUERY = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"


def test_a_taken_port_is_avoided() -> None:
    from got_assets.ui import free_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port


@pytest.mark.slow
def test_both_pages_answer_and_end_together(tmp_path: Path) -> None:
    environment = {**os.environ, "GOT_HOME": str(tmp_path), "GOT_RECIPE": "tiny"}
    environment.pop("DAGSTER_HOME", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "got_assets.cli", "ui"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
        found = [re.fullmatch(r"(Dagster|MLflow) +(http://127\.0\.0\.1:\d+)\n", line) for line in lines[:2]]
        assert all(found), [*lines, logs[-2000:]]
        addresses = {match[1]: match[2] for match in found if match}
        request = urllib.request.Request(
            f"{addresses['Dagster']}/graphql",
            data=json.dumps({"query": QUERY}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            (node,) = json.load(answer)["data"]["repositoriesOrError"]["nodes"]
        assert node["location"]["name"] == "got"
        with urllib.request.urlopen(addresses["MLflow"], timeout=300) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0
        process.stdout.close()
    for address in addresses.values():
        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)
