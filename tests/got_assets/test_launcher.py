"""When run monitoring hears that a run's process is gone: its retry is launched then, or never."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import grpc
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.__generated__.dagster_api_pb2_grpc import (
    DagsterApiServicer,
    add_DagsterApiServicer_to_server,
)

from got_assets import launcher
from got_assets.launcher import LocalRunLauncher
from got_assets.leasing import PROCESS_TAG, run_tags
from tests.ports import free_port


class Code(DagsterApiServicer):
    """A code server that can say that it is there."""

    def Ping(self, request: Any, context: Any) -> Any:
        return dagster_api_pb2.PingReply(echo=request.echo)


@pytest.fixture
def serve() -> Iterator[Callable[[int], None]]:
    """Starts a code server at a port."""
    servers = []

    def start(port: int) -> None:
        server = grpc.server(ThreadPoolExecutor(1))
        add_DagsterApiServicer_to_server(Code(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        servers.append(server)

    yield start
    for server in servers:
        server.stop(None).wait()


@dg.op
def nothing() -> None: ...


@dg.job
def it() -> None:
    nothing()


def lost(instance: dg.DagsterInstance, port: int) -> dg.DagsterRun:
    """A run of a code server at a port, whose process is gone."""
    own = json.loads(run_tags([])[PROCESS_TAG])
    tags = {PROCESS_TAG: json.dumps(own | {"started": own["started"] - 1})}
    run = instance.create_run_for_job(it, tags=tags, status=dg.DagsterRunStatus.STARTED)
    place = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=port, location_name="got")
    return run._replace(remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(place, "all"), "it"))


def test_a_lost_run_fails_when_its_code_server_can_launch_it_again(
    serve: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        made = LocalRunLauncher()
        made.register_instance(instance)
        port = free_port()
        run = lost(instance, port)
        assert made.check_run_worker_health(run).status == WorkerStatus.RUNNING
        serve(port)
        until = time.monotonic() + 60
        while made.check_run_worker_health(run).status != WorkerStatus.FAILED:
            assert time.monotonic() < until

        other = lost(instance, free_port())
        assert made.check_run_worker_health(other).status == WorkerStatus.RUNNING
        monkeypatch.setattr(launcher, "AWAY_SECONDS", 0.0)
        assert made.check_run_worker_health(other).status == WorkerStatus.FAILED, "it does not come back"


def test_a_run_of_no_code_server_fails_at_once() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        made = LocalRunLauncher()
        made.register_instance(instance)
        run = lost(instance, free_port())._replace(remote_job_origin=None)
        assert made.check_run_worker_health(run).status == WorkerStatus.FAILED
