"""Commands and variables of the files are those of the programs that the lock installs."""

from __future__ import annotations

import importlib
import re
import shlex
import warnings
from typing import Any

import click
import pytest
import typer
from mlflow import environment_variables

from got_assets.cli.app import app

from .files import CLUSTER, VARIABLE, compose, environment_file, environment_of, manifests, values

PROGRAMS = {
    ("dagster", "code-server", "start"): "dagster._cli.code_server:start_command",
    ("dagster-daemon", "run"): "dagster._daemon.cli:run_command",
    ("dagster-webserver",): "dagster_webserver.cli:dagster_webserver",
    ("dagster", "api", "grpc-health-check"): "dagster._cli.api:grpc_health_check_command",
    ("mlflow", "server"): "mlflow.cli:server",
    ("ray", "start"): "ray.scripts.scripts:start",
}


def command(program: str) -> click.Command:
    """A program's click command. MLflow warns of its own type hints when it is loaded."""
    module, _, name = program.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return getattr(importlib.import_module(module), name)


def options(program: str) -> set[str]:
    """Spellings of a click command's options."""
    return {spelling for one in command(program).params for spelling in (*one.opts, *one.secondary_opts)}


def commands() -> list[tuple[str, list[str]]]:
    """Services' commands and checks as words; what a shell does before is left out."""
    found = []
    for service, one in compose()["services"].items():
        if str(one["image"]).startswith("${CLUSTER_IMAGE"):
            words = shlex.split(one["command"])
            if words[:2] == ["sh", "-c"]:
                words = shlex.split(words[2].partition("exec ")[2])
            found.append((service, words))
            check = one.get("healthcheck", {}).get("test", [])[1:]
            found += [(f"{service}, healthcheck", check)] if check[:1] == ["dagster"] else []
    return found


@pytest.mark.parametrize(
    ("service", "words"), commands(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_programs_know_their_options(service: str, words: list[str]) -> None:
    if words[:1] in (["got"], ["python"]):
        return
    (program,) = [target for start, target in PROGRAMS.items() if words[: len(start)] == list(start)]
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given and given <= options(program), sorted(given - options(program))


def pods() -> list[dict[str, Any]]:
    """What Kubernetes' deployments and jobs run."""
    kinds = [one for _, one in manifests() if one["kind"] in ("Deployment", "Job")]
    return [one["spec"]["template"]["spec"] for one in kinds]


def test_our_own_commands_exist() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    boxes = [box for one in pods() for box in one["containers"]]
    given = [box["args"] for box in boxes if box.get("args", [""])[0] == "got"]
    given += [words for _, words in commands() if words[:1] == ["got"]]
    given += [one["spec"]["entrypoint"].split() for _, one in manifests() if one["kind"] == "RayJob"]
    assert [words[1] for words in given] == ["metrics", "metrics", "run"] and {"metrics", "run"} <= set(known)
    (prepare,) = [words for service, words in commands() if service == "prepare"]
    assert prepare in [box.get("args") for box in boxes], "both prepare the same"
    copied = re.findall(
        r"^COPY (?!--from)(?:--chown=\S+ )?(\S+) (/\S+)$", (CLUSTER / "Dockerfile").read_text(), re.M
    )
    targets = {target: source for source, target in copied}
    assert targets[prepare[1]] == "deployments/cluster/prepare.py"


def test_values_of_charts_become_options_that_there_are() -> None:
    given = values("mlflow")["server"]["value_options"]
    assert {f"--{name.replace('_', '-')}" for name in given} <= options(PROGRAMS["mlflow", "server"])
    (code,) = values("dagster")["dagster-user-deployments"]["deployments"]
    known = options(PROGRAMS["dagster", "code-server", "start"])
    assert {one for one in code["codeServerArgs"] if one.startswith("-")} <= known
    ray = options(PROGRAMS["ray", "start"])
    for _, one in manifests():
        for params in parameters(one) if one["apiVersion"].startswith("ray.io/") else ():
            assert {f"--{name}" for name in params} <= ray


def parameters(one: dict[str, Any]) -> list[dict[str, str]]:
    """`rayStartParams` of an object's groups."""
    spec = one["spec"].get("rayClusterSpec", one["spec"])
    return [group["rayStartParams"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def test_variables_of_mlflow_are_those_that_it_reads() -> None:
    named = {name for service in compose()["services"] for name in environment_of(service)}
    named |= {name for one in compose()["services"].values() for name in one.get("secrets", [])}
    named |= {one["name"] for one in values("mlflow")["env"]}
    named = {one for one in named if one.startswith("MLFLOW_")} - {"MLFLOW_POSTGRES_PASSWORD"}
    server = {one.envvar for one in command(PROGRAMS["mlflow", "server"]).params}
    unknown = {one for one in named if not hasattr(environment_variables, one)} - server
    assert len(named) > 8 and not unknown, sorted(unknown)


def test_mlflow_takes_what_browsers_send_through_the_proxy() -> None:
    from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request

    known = environment_file()[0]
    environment = {
        name: VARIABLE.sub(lambda one: known[one[1]], value).replace("}", "")
        for name, value in environment_of("mlflow").items()
    }
    origins = environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    published = {port.split(":")[0] for port in compose()["services"]["nginx"]["ports"]}
    (port,) = {one.rpartition(":")[2] for one in origins} & published
    block = re.search(rf"listen {port} ssl.*?\n    }}\n", (CLUSTER / "nginx.conf").read_text(), re.DOTALL)
    assert block and "set $mlflow mlflow:5000;" in block[0]
    (host,) = re.findall(r"proxy_set_header Host (\S+);", block[0])
    hosts = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert is_allowed_host_header(hosts, host) and not is_allowed_host_header(hosts, "elsewhere.example.com")
    assert not should_block_cors_request(f"https://{known['CLUSTER_HOST']}:{port}", "POST", origins)
    assert should_block_cors_request("https://elsewhere.example.com", "POST", origins)
    (chart,) = [
        one["value"] for one in values("mlflow")["env"] if one["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS"
    ]
    assert chart == known["MLFLOW_SERVER_ALLOWED_HOSTS"]
