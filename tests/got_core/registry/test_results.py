"""Results and decisions kept with a real registry: damaged tags, and processes cut off between two writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion

from got_core.registry.config import PromotionConfig
from got_core.registry.log import CHALLENGER
from got_core.registry.promote import CHAMPION, REASON_TAG, promote
from got_core.registry.results import (
    PROTOCOL_TAG,
    SCORES_TAG,
    BenchmarkResult,
    log_results,
    read_results,
    store_results,
    tag_entries,
    tags_of,
)
from got_core.registry.tracking import MlflowClient, connect, ensure_experiment

from .scored import measured, result


class Registry:
    """A registry of versions that are nothing but their results."""

    def __init__(self, root: Path) -> None:
        self.uri = f"sqlite:///{root / 'mlflow.db'}"
        self.client = connect(self.uri)
        self.client.create_registered_model("got")

    def add(self, results: Sequence[BenchmarkResult], weights: str, alias: str) -> ModelVersion:
        run = self.client.create_run(ensure_experiment(self.uri, "test")).info
        log_results(self.client, run.run_id, results)
        tags = {**tags_of(tag_entries(results, run.run_id)), "weights_hash": weights}
        made = self.client.create_model_version("got", run.artifact_uri, run.run_id, tags=tags)
        self.client.set_registered_model_alias("got", alias, made.version)
        return made

    def tags(self, version: ModelVersion) -> dict[str, str]:
        return self.client.get_model_version("got", str(version.version)).tags


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def cut_off(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """The client's method ends the process, so to speak, at its n-th call."""
    calls, work = [0], getattr(MlflowClient, method)

    def counted(*given: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return work(*given, **named)

    monkeypatch.setattr(MlflowClient, method, counted)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '{"geneval/scenes": null}',
        '{"a": {}}',
        '{"a": {"protocol_digest": "p1"}}',
        '{"protocol": "geneval/scenes"}',
        '{"a": {"protocol": "a", "protocol_digest": "p1", "complete": true, "overall": "0.9", "low": 0, '
        '"high": 1, "tasks": {}}}',
        '{"a": {"protocol": "a", "protocol_digest": "p1", "complete": true, "overall": 0.9, "low": 0, '
        '"high": 1, "tasks": {"color": 0.9}}}',
    ],
)
def test_what_is_no_result_counts_as_missing(registry: Registry, text: str) -> None:
    champion = registry.add([result(20)], "w1", CHAMPION)
    registry.add([result(10)], "w2", CHALLENGER)
    registry.client.set_model_version_tag("got", str(champion.version), SCORES_TAG, text)
    held = registry.client.get_model_version("got", str(champion.version))
    assert read_results(registry.client, held) == {}
    decision = promote(tracking_uri=registry.uri)
    assert not decision.promoted and "its result of geneval/scenes is missing" in decision.reason


def test_results_whose_storing_was_cut_off_are_stored_whole(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.add([result(20)], "w1", CHAMPION)
    newer = [result(20, digest="p2")]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_off(patch, "set_model_version_tag", 2)
        store_results(registry.client, "got", version, newer, registry.uri)
    held = registry.client.get_model_version("got", str(version.version))
    store_results(registry.client, "got", held, newer, registry.uri)
    assert registry.tags(version)[PROTOCOL_TAG] == "geneval/scenes p2"
    assert '"p2"' in registry.tags(version)[SCORES_TAG]


@pytest.mark.parametrize("call", [1, 2])
def test_a_champion_never_lacks_the_reason_why(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    registry.add([result(20)], "w1", CHAMPION)
    challenger = registry.add([result(10)], "w2", CHALLENGER)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_off(patch, "set_model_version_tag", call)
        promote(tracking_uri=registry.uri)
    assert promote(tracking_uri=registry.uri).champion == str(challenger.version)
    assert "is better" in registry.tags(challenger)[REASON_TAG]


def test_results_go_by_the_benchmarks_name_whatever_its_protocol_is_called(registry: Registry) -> None:
    version = registry.add([measured(), result(20)], "w1", CHAMPION)
    registry.add([measured(0.02), result(20)], "w2", CHALLENGER)
    metrics = registry.client.get_run(version.run_id).data.metrics
    assert {"emu_edit/base/overall", "emu_edit/base/clip_t", "geneval/scenes/colors"} <= set(metrics)
    held = read_results(registry.client, version)
    assert [*held] == ["emu_edit/base", "geneval/scenes"]
    assert held["emu_edit/base"].scores["benchmark"] == "emu_edit/base"
    outcomes = held["emu_edit/base"].outcomes
    assert outcomes is not None and outcomes["value"].null_count() == 4
    config = PromotionConfig(primary="emu_edit/base/clip_dir")
    decision = promote(tracking_uri=registry.uri, config=config)
    assert decision.promoted and "emu_edit/base/clip_dir is better" in decision.reason


def test_what_was_registered_before_there_were_figures_keeps_its_digest() -> None:
    """It would count as another result, and be stored again."""
    assert tag_entries([result(20)], "r")["geneval/scenes"]["outcomes"] == "6d25d9901935"
