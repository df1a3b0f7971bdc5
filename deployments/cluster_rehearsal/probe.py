"""Servers asked without credentials, from a machine that reaches them: each has to say no in its own words.

Usage on that machine: ``python -m deployments.cluster_rehearsal.probe KIND HOST PORT ...``, three words a
server; what each says goes out as a JSON list. Belongs here: questions and the right answers. Not here: which
ports the network closes (`firewall`).
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from deployments.cluster_rehearsal import commands, proxy
from deployments.cluster_rehearsal.cluster import ROOT, Cluster
from deployments.cluster_rehearsal.network import OUTSIDE

_SECONDS = 20.0


@dataclass(frozen=True)
class Question:
    """What is asked of a server from which machine, and what the answer has to begin with."""

    machine: str
    kind: str
    server: str
    port: int
    refused: str


QUESTIONS = (
    Question(OUTSIDE, "page", "nginx", proxy.RUNNERS, "401"),
    Question(OUTSIDE, "wrong password", "nginx", proxy.RUNNERS, "401"),
    Question(OUTSIDE, "page", "nginx", proxy.READERS, "401"),
    Question(OUTSIDE, "experiments through nginx", "nginx", proxy.TRACKING, "401"),
    Question("code", "experiments", "mlflow", commands.MLFLOW, "401"),
    Question("code", "database", "postgres", commands.POSTGRES, "no password supplied"),
    Question("code", "bucket", "s3", commands.S3, "403"),
    Question("code", "wrong signature", "s3", commands.S3, "403"),
    Question("code", "models", "annotator", commands.ANNOTATOR, "401"),
    Question("code", "jobs", "ray-head", commands.JOBS, "401"),
    Question("ray-1", "ray", "ray-head", commands.GCS, "UNAUTHENTICATED"),
)


def check(servers: Cluster) -> str:
    """Ask every question; in a sentence what was said. Raises AssertionError, naming them, where a server
    does not say no."""
    wrong, said = [], []
    for machine in dict.fromkeys(one.machine for one in QUESTIONS):
        asked = [one for one in QUESTIONS if one.machine == machine]
        words = [str(word) for one in asked for word in (one.kind, servers.hosts[one.server].host, one.port)]
        command = [sys.executable, "-m", "deployments.cluster_rehearsal.probe", *words]
        # No secret, and nothing of the user's.
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        done = subprocess.run(
            servers.hosts[machine].inside(command),
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"the questions from {machine} cannot be asked: {done.stderr[-2000:]}")
        for one, answer in zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True):
            said.append(f"{one.server}:{one.port} {one.refused}")
            if not answer.startswith(one.refused):
                wrong.append(f"{one.server}:{one.port} says {answer!r} to {one.kind} from {machine}")
    if wrong:
        raise AssertionError("without credentials: " + "; ".join(wrong))
    return ", ".join(dict.fromkeys(said))


def _page(host: str, port: int, **headers: str) -> str:
    return _get(f"https://{host}:{port}/graphql", **headers)


def _get(url: str, **headers: str) -> str:
    """Status of an answer. Certificates are not looked at: it is not who answers that is asked here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_SECONDS, context=context
        ) as answer:
            return f"{answer.status} {answer.read(200)!r}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(200)!r}"


def _database(host: str, port: int) -> str:
    import psycopg2

    try:
        psycopg2.connect(
            host=host, port=port, user="dagster", dbname="dagster", connect_timeout=int(_SECONDS)
        )
    except psycopg2.OperationalError as error:
        return str(error).strip().rpartition("fe_sendauth: ")[2]
    return "let in"


def _ray(host: str, port: int) -> str:
    """Whether it is there, asked of Ray's own service by gRPC; an empty message is a whole one."""
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        try:
            return f"let in: {len(call(b'', timeout=_SECONDS))} bytes"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


_SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=got/20260101/us-east-1/s3/aws4_request, "
    f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={'0' * 64}"
)
_PATH = "/api/2.0/mlflow/experiments/search?max_results=1"
_KINDS: dict[str, Callable[[str, int], str]] = {
    "page": _page,
    "wrong password": lambda host, port: _page(host, port, Authorization="Basic YWRhOndyb25n"),
    "experiments": lambda host, port: _get(f"http://{host}:{port}{_PATH}"),
    "experiments through nginx": lambda host, port: _get(f"https://{host}:{port}{_PATH}"),
    "database": _database,
    "bucket": lambda host, port: _get(f"http://{host}:{port}/{commands.BUCKET}?list-type=2"),
    "wrong signature": lambda host, port: _get(f"http://{host}:{port}/", Authorization=_SIGNATURE),
    "models": lambda host, port: _get(f"http://{host}:{port}/v1/models"),
    "jobs": lambda host, port: _get(f"http://{host}:{port}/api/jobs/"),
    "ray": _ray,
}

if __name__ == "__main__":
    words = sys.argv[1:]
    asked = zip(words[::3], words[1::3], words[2::3], strict=True)
    print(json.dumps([_KINDS[kind](host, int(port)) for kind, host, port in asked]))
