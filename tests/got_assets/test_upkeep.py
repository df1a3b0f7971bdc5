"""The sensor that keeps shards up to date, on a real instance: what it requests, and what it does not."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import SENSOR_NAME_TAG

from got_core import recipes
from tests.got_core.annotate.chat_server import ChatServer

from .conftest import Graph
from .test_pauses import refused
from .test_staleness import EDIT_CURATION, EDIT_STEPS, IMAGE_CURATION, IMAGE_STEPS, cut_off, spoil

NAME = "keep_shards_up_to_date"
ALL = {"images-00000": IMAGE_STEPS, "images-00001": IMAGE_STEPS, "edits-00000": EDIT_STEPS}
Load = Callable[..., Graph]


@pytest.fixture
def home(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads graphs whose instance is one on disk, as the daemon's is."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("GOT_PARALLEL", "4")
    from got_assets.home import prepare_dagster_home

    prepare_dagster_home(load().project)
    with dg.DagsterInstance.get() as instance:

        def loaded(**settings: str) -> Graph:
            graph = load(**settings)
            graph.instance = instance
            return graph

        yield loaded


@pytest.fixture
def new(home: Load) -> Graph:
    """Shards that were listed, and nothing made."""
    graph = home()
    graph.render()
    graph.run.assign_shards(graph.project, graph.instance)
    return graph


def tick(graph: Graph) -> list[dg.RunRequest]:
    """The requests of one evaluation, as the daemon does it."""
    context = dg.build_sensor_context(
        graph.instance,
        repository_def=graph.run.defs.get_repository_def(),
        resources={"project": graph.project},
    )
    found = graph.run.defs.resolve_sensor_def(NAME)(context)
    return list(found.run_requests or []) if isinstance(found, dg.SensorResult) else []


def asked(graph: Graph) -> dict[str, list[str]]:
    """Assets that are requested, by shard."""
    requests = tick(graph)
    assert len({request.run_key for request in requests}) == len(requests)
    return {one.partition_key: [key.to_user_string() for key in one.asset_selection] for one in requests}


def execute(graph: Graph, request: dg.RunRequest) -> bool:
    """Do what was requested; whether it went well."""
    job = graph.run.defs.resolve_job_def(request.job_name)
    tags = {**request.tags, SENSOR_NAME_TAG: NAME, "dagster/run_key": request.run_key}
    result = job.execute_in_process(
        instance=graph.instance, partition_key=request.partition_key, tags=tags,
        asset_selection=request.asset_selection, raise_on_error=False, run_config=graph.run.QUIET,
    )  # fmt: skip
    return result.success


def origin(job: str) -> RemoteJobOrigin:
    """Where the daemon would load a queued run's job from."""
    return RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("got"), "__repository__"), job)


def make_all(graph: Graph) -> int:
    """Ticks and runs until nothing is requested; the number of runs."""
    for number in range(20):
        requests = tick(graph)
        if not requests:
            return number
        for request in requests:
            assert execute(graph, request)
    raise AssertionError("it never ends")


@pytest.mark.slow
def test_every_shard_is_made_in_one_run_and_then_nothing_is_requested(new: Graph) -> None:
    assert asked(new) == ALL
    assert make_all(new) == 1, "one tick asked for everything"
    assert new.instance.get_runs_count() == 3
    assert new.make_data() == {shard: [] for shard in ALL}, "up to date for `got run`, too"


@pytest.mark.slow
def test_what_changed_is_requested_and_nothing_else(
    new: Graph, home: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(new)
    new.storage.delete("captions/images-00001")
    assert asked(new) == {"images-00001": ["captions"]}
    make_all(new)

    new.instance.report_runless_asset_event(
        dg.AssetMaterialization("entities", partition="images-00000", tags={"dagster/data_version": "other"})
    )
    assert asked(new) == {"images-00000": ["boxes"]}
    make_all(new)

    tiny = recipes.tiny()
    stricter = dataclasses.replace(tiny, curate=dataclasses.replace(tiny.curate, max_boxes=1))
    monkeypatch.setitem(recipes.RECIPES, "stricter", lambda: stricter)
    changed = home(recipe="stricter")
    assert asked(changed) == {
        "images-00000": IMAGE_CURATION, "images-00001": IMAGE_CURATION, "edits-00000": EDIT_CURATION
    }  # fmt: skip
    assert make_all(changed) == 1
    assert asked(changed) == {}


@pytest.mark.slow
def test_a_failed_check_stops_a_shard_and_one_that_did_not_run_is_made_up_for(
    new: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(new, "images-00000")
    cut_off(new, monkeypatch, "check")
    assert asked(new)["images-00000"] == IMAGE_STEPS, "the check runs with what is made again"
    (request,) = [one for one in tick(new) if one.partition_key == "images-00000"]
    assert not execute(new, request)
    assert new.storage.list("captions/") == []
    assert "images-00000" not in asked(new), "its check failed by now, and nothing has changed"


@pytest.mark.slow
def test_shards_that_are_worked_on_are_not_requested_again(new: Graph) -> None:
    job = new.run.defs.resolve_job_def("prepare_images")
    run = new.instance.create_run_for_job(
        job, tags={"dagster/partition": "images-00000"}, status=dg.DagsterRunStatus.STARTED
    )
    assert set(asked(new)) == {"images-00001", "edits-00000"}
    new.instance.report_run_failed(run)
    assert set(asked(new)) == set(ALL)


@pytest.mark.slow
def test_no_more_runs_are_requested_than_are_worked_on(
    new: Graph, home: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_PARALLEL", "1")
    assert len(tick(home())) == 2


@pytest.mark.slow
def test_what_a_run_did_not_make_waits_longer_each_time(new: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    new.storage.write_bytes("shards/images-00000.parquet", b"not parquet")
    (request,) = [one for one in tick(new) if one.partition_key == "images-00000"]
    assert not execute(new, request)
    started, later = time.time(), [0.0]
    monkeypatch.setattr(time, "time", lambda: started + later[0])
    assert "images-00000" not in asked(new)
    later[0] = 330.0
    (second,) = [one for one in tick(new) if one.partition_key == "images-00000"]
    assert second.run_key != request.run_key
    with monkeypatch.context() as patch:
        patch.undo()
        assert not execute(new, second)
    assert "images-00000" not in asked(new)
    later[0] = 960.0
    assert "images-00000" in asked(new)


@pytest.mark.slow
def test_an_annotator_that_refuses_is_tried_by_one_shard_at_a_time(
    home: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, later = time.time(), [0.0]
    monkeypatch.setattr(time, "time", lambda: started + later[0])
    with ChatServer(refused) as server:
        graph = home(
            annotator="openai", annotator_url=server.url, annotator_vision_model="eyes",
            annotator_box_unit="thousandths", annotator_concurrency="1",
        )  # fmt: skip
        graph.render()
        graph.run.assign_shards(graph.project, graph.instance)
        first, queued, _ = tick(graph)
        job = graph.run.defs.resolve_job_def(queued.job_name)
        waiting = graph.instance.create_run_for_job(
            job, tags={**queued.tags, "dagster/partition": queued.partition_key},
            status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin(queued.job_name),
        )  # fmt: skip
        assert not execute(graph, first)
        assert len(server.requests) == 1

        requests = tick(graph)
        assert [key.to_user_string() for one in requests for key in one.asset_selection] == [
            "raw_images",
            "edit_pairs",
        ], "the others are ingested, and ask nobody"
        ended = graph.instance.get_run_by_id(waiting.run_id)
        assert ended and ended.status == dg.DagsterRunStatus.CANCELED
        for request in requests:
            assert execute(graph, request)
        assert tick(graph) == []
        later[0] = 400.0
        (probe,) = tick(graph)
        assert "captions" in str(probe.asset_selection) or "edit_descriptions" in str(probe.asset_selection)
        assert len(server.requests) == 1
