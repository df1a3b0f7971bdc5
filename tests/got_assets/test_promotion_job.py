"""Moving the champion from Dagster's page: the job, in this process, on a registry that holds tags alone."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from got_core.registry.aliases import alias_history
from got_core.registry.tracking import connect

from .conftest import Graph


@pytest.fixture
def registry(graph: Graph) -> Any:
    """Two versions, neither of them scored; the second is challenger."""
    client = connect(graph.project.settings.tracking_uri)
    client.create_registered_model("got")
    for k in (1, 2):
        client.create_model_version("got", "file:///nowhere", tags={"weights_hash": f"w{k}"})
    client.set_registered_model_alias("got", "challenger", "2")
    return client


def run(graph: Graph, **config: str) -> dg.ExecuteInProcessResult:
    job = graph.run.defs.resolve_job_def("move_champion")
    settings = {"ops": {"move_alias_champion": {"config": config}}}
    return job.execute_in_process(run_config=settings, instance=graph.instance, raise_on_error=False)


def test_the_champion_is_moved_and_moved_back(graph: Graph, registry: Any) -> None:
    assert run(graph, version="1", reason="the first").success
    assert run(graph, version="2", reason="better").success
    assert run(graph, action="rollback", reason="it was not").success
    moves = alias_history(registry, "got", "champion")
    assert [(one.before, one.version) for one in moves] == [(None, "1"), ("1", "2"), ("2", "1")]
    assert not run(graph, action="rollback").success, "without a reason nothing is moved"
    # By the rule: a challenger without scores stays what it is, and its version says why.
    assert run(graph).success
    assert str(registry.get_model_version_by_alias("got", "champion").version) == "1"
    assert (
        "its result of geneval/scenes is missing" in registry.get_model_version("got", "2").tags["promotion"]
    )
