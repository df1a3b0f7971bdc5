"""Nodes that come late: waited for on a cluster, not on a Ray that was started here."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from got_core import ray_nodes
from got_core.ray_nodes import TooFewError, once_there


def after(calls: int) -> Callable[[], int]:
    """There is enough at that call."""
    found = 0

    def decide() -> int:
        nonlocal found
        found += 1
        if found < calls:
            raise TooFewError(f"2 workers, and the cluster has {found - 1}")
        return found

    return decide


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "_POLL", 0.01)


def test_nodes_of_a_cluster_are_waited_for_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert once_there(after(4), "10.0.0.1:6379") == 4
    assert [one.message for one in caplog.records] == [
        "2 workers, and the cluster has 0; waiting for more nodes, up to 180 s"
    ]


def test_in_the_end_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "NODES_SECONDS", 0.1)
    with pytest.raises(TooFewError, match="2 workers"):
        once_there(after(1000), "10.0.0.1:6379")


def test_ray_that_was_started_here_gets_no_more_nodes() -> None:
    with pytest.raises(TooFewError, match="has 0"):
        once_there(after(2), None)


def test_other_faults_are_not_waited_for() -> None:
    def decide() -> int:
        raise ValueError("a draw of 32 samples cannot be shared by 5")

    with pytest.raises(ValueError, match="cannot be shared"):
        once_there(decide, "10.0.0.1:6379")
