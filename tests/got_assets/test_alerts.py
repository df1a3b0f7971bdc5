"""The sensor that alerts, on a real instance and against a real receiver; what the line's figures are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from got_core.alerts.webhook import WebhookError
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.daily_budget import DailyBudget, taken_on
from got_core.annotate.usage import Usage
from got_core.conditional_files import conditional_files
from got_core.storage import Storage
from tests.got_core.alerts.receiver import Receiver, receiving
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.judges.canary_server import Server as JudgeServer
from tests.got_core.evaluate.judges.canary_server import checked

from .conftest import Graph

NOTHING_FREE = "0"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as made:
        monkeypatch.setenv("GOT_ALERT_WEBHOOK", made.url)
        monkeypatch.setenv("GOT_ALERT_DISK_GB", NOTHING_FREE)
        yield made


def tick(graph: Graph, cursor: str | None) -> str | None:
    """One look; the cursor that it leaves."""
    context = dg.build_sensor_context(
        graph.instance,
        cursor=cursor,
        repository_def=graph.run.defs.get_repository_def(),
        resources={"project": graph.project},
    )
    found = graph.run.defs.resolve_sensor_def("alert")(context)
    assert isinstance(found, dg.SkipReason)
    return context.cursor


def fail(graph: Graph, shard: str, **tags: str) -> str:
    """A run of a shard that has no list of files: it fails. Its id."""
    if shard not in graph.instance.get_dynamic_partitions("image_shards"):
        graph.instance.add_dynamic_partitions("image_shards", [shard])
    job = graph.run.defs.resolve_job_def("prepare_images")
    result = job.execute_in_process(
        instance=graph.instance,
        partition_key=shard,
        tags=tags,
        asset_selection=[dg.AssetKey("raw_images")],
        raise_on_error=False,
        run_config=graph.run.QUIET,
    )
    assert not result.success
    return result.run_id


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """What was received since the last call: state and alert."""
    found = [(one["state"], one["alert"]) for _, one in receiver.got]
    receiver.got.clear()
    return found


def test_failed_runs_and_stuck_shards_are_told_once_and_when_they_are_over(
    load: Callable[..., Graph], receiver: Receiver
) -> None:
    graph = load()
    cursor = tick(graph, None)
    assert told(receiver) == []
    run = fail(graph, "images-00007")
    cursor = tick(graph, cursor)
    ((_, said),) = receiver.got
    assert said["alert"] == "failed_runs"
    assert f"prepare_images images-00007 ({run[:8]})" in said["summary"]
    assert "shards/images-00007.parquet does not exist" in said["summary"]
    told(receiver)
    cursor = tick(graph, cursor)
    assert told(receiver) == []

    fail(graph, "images-00007", **{"dagster/will_retry": "true"})
    cursor = tick(graph, cursor)
    assert told(receiver) == [], "Dagster runs it again by itself"
    fail(graph, "images-00007")
    receiver.status = 503
    with pytest.raises(WebhookError):
        tick(graph, cursor)
    receiver.status = 204
    cursor = tick(graph, cursor)
    assert told(receiver) == [("firing", "failed_runs"), ("firing", "stuck_shards")]
    graph.instance.delete_dynamic_partition("image_shards", "images-00007")
    cursor = tick(graph, cursor)
    assert told(receiver) == [("resolved", "stuck_shards")]
    assert json.loads(cursor or "")["told"] == {}


def test_many_failures_are_one_message(load: Callable[..., Graph], receiver: Receiver) -> None:
    graph = load()
    cursor = tick(graph, None)
    job = graph.run.defs.resolve_job_def("prepare_images")
    for number in range(5):
        tags = {"dagster/partition": f"images-{number:05}"}
        run = graph.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
        graph.instance.report_run_failed(run)
    tick(graph, cursor)
    ((_, said),) = receiver.got
    assert said["summary"].startswith("5 runs failed: ") and said["summary"].endswith("; and 2 more")
    assert said["summary"].count(": it was ended from outside") == 3


def test_without_a_webhook_nothing_is_looked_at(graph: Graph) -> None:
    assert tick(graph, "kept") == "kept"
    sensor = graph.run.defs.resolve_sensor_def("alert")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_with_a_webhook_it_is_on(load: Callable[..., Graph], receiver: Receiver) -> None:
    sensor = load().run.defs.resolve_sensor_def("alert")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_a_shard_that_fails_its_check_is_stopped(
    load: Callable[..., Graph], receiver: Receiver, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        (pictures / f"{number}.png").write_bytes(f"no picture {number}".encode())
    graph = load(raw=str(pictures), annotator="scenes")
    (shard,), _ = graph.run.assign_shards(graph.project, graph.instance)
    assert {one.name: one.state for one in look(graph).shards} == {shard: "waiting"}
    graph.run.Runner(graph.project, graph.instance).bring_up_to_date(["raw_images"], shard)
    (found,) = look(graph).shards
    assert (found.state, found.why) == ("stopped", "raw_images fails its check")
    tick(graph, None)
    (said,) = [one for _, one in receiver.got if one["alert"] == "stopped_shards"]
    assert said["state"] == "firing"
    assert said["summary"] == f"1 shards stopped by a failed check: {shard}: raw_images fails its check"


def look(graph: Graph, **options: Any) -> Any:
    from got_assets.defs.alerts.lines import LINES
    from got_assets.line.state import read_line

    assets = graph.run.defs.get_repository_def().asset_graph
    return read_line(graph.instance, assets, LINES, graph.project, stuck_runs=3, **options)


def test_the_budget_of_the_day_is_told_by_its_share(
    load: Callable[..., Graph], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load(
        annotator="openai", annotator_url="http://127.0.0.1:1/v1", annotator_vision_model="eyes",
        annotator_box_unit="thousandths", annotator_budget_per_day="10",
        annotator_budget_tokens_per_day="1000",
    )  # fmt: skip
    cursor = tick(graph, None)
    assert told(receiver) == []
    config = OpenAIConfig(url="http://127.0.0.1:1/v1", vision_model="Qwen2-VL", budget_per_day=10.0)
    spend(graph.storage, config, Usage(tokens_in=400, tokens_out=500, cost=9.5))
    cursor = tick(graph, cursor)
    assert [one["summary"] for _, one in receiver.got] == [
        "9.5 of 10 money of today (UTC) are taken", "900 of 1,000 tokens of today (UTC) are taken",
    ]  # fmt: skip
    assert sorted(told(receiver)) == [("firing", "budget_money"), ("firing", "budget_tokens")]
    monkeypatch.setenv("GOT_ALERT_BUDGET_SHARE", "0.92")
    cursor = tick(graph, cursor)
    assert told(receiver) == [("resolved", "budget_tokens")]
    monkeypatch.setenv("GOT_ALERT_BUDGET_SHARE", "1")
    tick(graph, cursor)
    assert told(receiver) == [("resolved", "budget_money")]


def test_a_disk_is_told_of_when_less_is_free_than_is_asked_for(
    load: Callable[..., Graph], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load()
    disks = look(graph).disks
    assert set(disks) == {"home", "storage"}
    monkeypatch.setenv("GOT_ALERT_DISK_GB", str(2 * max(disks.values()) / 1e9))
    cursor = tick(graph, None)
    assert {one["alert"]: one["summary"].partition(" GB are free ")[2] for _, one in receiver.got} == {
        f"disk_{place}": f"on the disk of {place}" for place in disks
    }
    free = float(receiver.got[0][1]["summary"].partition(" ")[0]) * 1e9
    assert 0.5 < free / disks["home"] < 2, "what is free on the machine, which others use too"
    told(receiver)
    monkeypatch.setenv("GOT_ALERT_DISK_GB", NOTHING_FREE)
    tick(graph, cursor)
    assert sorted(told(receiver)) == [("resolved", "disk_home"), ("resolved", "disk_storage")]


def test_a_moved_canary_is_found_in_the_scores_of_its_benchmark(
    load: Callable[..., Graph], receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import dataclasses

    from got_core import recipes

    tiny = recipes.tiny()
    judged = dataclasses.replace(tiny.evaluate, benchmarks=("geneval/scenes", "geneval2/published"))
    monkeypatch.setitem(recipes.RECIPES, "judged", lambda: dataclasses.replace(tiny, evaluate=judged))
    graph = load(recipe="judged")
    asset = next(key for key, name in judged.assets.items() if name == "geneval2/published")
    judge = JudgeServer()
    with ChatServer(judge) as server:
        still = checked(server, tmp_path / "judge")
        judge.shift = (1.0, 1.0)
        moved = checked(server, tmp_path / "judge")
    graph.storage.write_json(f"{asset}.json", {"scores": {"canary": still}})
    cursor = tick(graph, None)
    assert told(receiver) == []
    graph.storage.write_json(f"{asset}.json", {"scores": {"canary": moved}})
    cursor = tick(graph, cursor)
    ((_, said),) = receiver.got
    assert said["summary"] == f"geneval2/published: {moved['note']}" and " moved by " in said["summary"]
    assert told(receiver) == [("firing", "canary_geneval2_published")]
    graph.storage.write_json(f"{asset}.json", {"scores": {"canary": still}})
    tick(graph, cursor)
    assert told(receiver) == [("resolved", "canary_geneval2_published")]


def spend(storage: Storage, config: OpenAIConfig, used: Usage) -> None:
    budget = DailyBudget(conditional_files(storage.url, storage.fs_options), config.budget_per_day, None)
    with budget.used():
        budget.reserve(used)
        budget.settle(used, used)


def test_what_was_spent_on_a_day(tmp_path: Path) -> None:
    storage, today = Storage(str(tmp_path)), datetime.now(UTC).date()
    assert taken_on(storage, today).money == 0.0
    config = OpenAIConfig(url="http://127.0.0.1:1/v1", vision_model="Qwen2-VL", budget_per_day=10.0)
    spend(storage, config, Usage(tokens_in=3, tokens_out=4, cost=2.5))
    assert (taken_on(storage, today).money, taken_on(storage, today).tokens) == (2.5, 7)
    storage.write_bytes(f"ledger/days/{today}.json", b"{")
    with pytest.raises(ValueError, match="is damaged"):
        taken_on(storage, today)
