"""`got metrics`: figures are those of the tables, and nobody without a token reads them from a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from got_core.watch_settings import MetricsSettings

from .conftest import Graph


def exporter(graph: Graph, said: list[str] | None = None, **settings: Any) -> Any:
    from got_assets.defs.alerts.lines import LINES
    from got_assets.line.exporter import Exporter

    assets = graph.run.defs.get_repository_def().asset_graph
    lines: list[str] = [] if said is None else said
    return Exporter(graph.instance, assets, LINES, graph.project, MetricsSettings(**settings), lines.append)


def figures(made: Any) -> dict[str, float]:
    """Samples by name with labels, as in the text format."""
    text = made.metrics.text().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_figures_are_those_of_the_tables(graph: Graph) -> None:
    graph.render_few(images=5, pairs=1, bad=1)
    (shard,), _ = graph.run.assign_shards(graph.project, graph.instance)
    graph.make(*graph.run.IMAGE_STEPS, partition=shard)
    made = exporter(graph)
    assert made.look()
    found = figures(made)
    assert found['got_line_shards{kind="images",state="up to date"}'] == 1
    assert found['got_line_rows{asset="raw_images",verdict="accepted"}'] == 5
    assert found['got_line_rows{asset="raw_images",verdict="rejected"}'] == 1
    assert found['got_line_training_steps{stage="finetune"}'] == graph.project.recipe.stages[-1].config.steps
    assert found["got_line_look_faults_total"] == 0

    graph.instance.delete_dynamic_partition("image_shards", shard)
    assert made.look()
    assert figures(made)['got_line_shards{kind="images",state="up to date"}'] == 0


def test_a_look_that_fails_keeps_the_figures_and_is_counted(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    made = exporter(graph, said)
    assert made.late
    assert made.look() and not made.late
    before = figures(made)

    def away(*_: Any, **__: Any) -> None:
        raise OSError("postgresql://dagster:secret@postgres/dagster is away")

    monkeypatch.setattr(graph.instance, "get_runs", away)
    assert not made.look()
    after = figures(made)
    assert after.pop("got_line_look_faults_total") == 1
    assert after == {name: value for name, value in before.items() if name != "got_line_look_faults_total"}
    assert "is away" in said[0] and "secret" not in said[0]


def test_a_network_needs_a_token(graph: Graph) -> None:
    with pytest.raises(ValueError, match="GOT_METRICS_TOKEN"):
        exporter(graph, host="0.0.0.0").app()
    made = exporter(graph, host="0.0.0.0", token="long-enough")
    client = TestClient(made.app())
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong-token"}).status_code == 401
    answer = client.get("/metrics", headers={"Authorization": "Bearer long-enough"})
    assert answer.status_code == 200 and "got_line_shards" in answer.text
    assert client.get("/health").status_code == 503, "nothing was looked at yet; probes have no token"
    made.look()
    assert client.get("/health").status_code == 200


def test_without_a_token_only_names_of_this_machine_are_answered(graph: Graph) -> None:
    client = TestClient(exporter(graph).app(), base_url="http://127.0.0.1")
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"Host": "rebound.example.com"}).status_code == 403


def test_the_command_prints_them_once(
    load: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = load()
    monkeypatch.setenv("DAGSTER_HOME", "")  # the command sets it: it has to be gone again
    from got_assets.cli.app import main

    assert main(["metrics", "--host", "0.0.0.0"]) == 2
    assert "GOT_METRICS_TOKEN" in capsys.readouterr().err
    assert main(["metrics", "--once"]) == 0
    out = capsys.readouterr().out
    assert 'got_line_shards{kind="images",state="waiting"} 0.0' in out
    assert (graph.home / "dagster" / "dagster.yaml").exists()
