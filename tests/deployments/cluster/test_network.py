"""Who reaches which port: Kubernetes' policies and compose's networks, worked out from the files, beside the
tables of the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from dagster_k8s.utils import get_common_labels

from .files import CLUSTER, ROOT, compose, environment_file, environment_of, manifests
from .test_compose import ADDRESS, LISTENING

HOME = "got"
"""The namespace that everything is installed in."""


@dataclass(frozen=True)
class Pod:
    """Who asks, or is asked."""

    labels: dict[str, str]
    namespace: str = HOME


def of_chart(component: str) -> Pod:
    """A pod of Dagster's chart: labels of its templates."""
    return Pod({"app.kubernetes.io/name": "dagster", "component": component})


def of_ray(kind: str) -> Pod:
    """A pod of KubeRay's: labels that the operator gives."""
    return Pod({"app.kubernetes.io/name": "kuberay", "ray.io/is-ray-node": "yes", "ray.io/node-type": kind})


def of_files() -> dict[str, Pod]:
    """Pods whose labels stand in the files."""
    kinds = [one for _, one in manifests() if one["kind"] in ("Deployment", "Job")]
    return {one["metadata"]["name"]: Pod(one["spec"]["template"]["metadata"]["labels"]) for one in kinds}


PODS = {
    **of_files(),
    "webserver": of_chart("dagster-webserver"),
    "webserver-read": of_chart("dagster-webserver-read-only"),
    "daemon": of_chart("dagster-daemon"),
    "code": of_chart("user-deployments"),
    "run": Pod({**get_common_labels(), "app.kubernetes.io/component": "run_worker"}),
    "mlflow": Pod({"app.kubernetes.io/name": "mlflow"}),
    "ray-head": of_ray("head"),
    "ray-worker": of_ray("worker"),
    "submitter": Pod({"ray.io/originated-from-crd": "RayJob"}),
    "ingress controller": Pod({"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx"),
    "operator": Pod({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay-operator"),
    "prometheus": Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring"),
    "anybody": Pod({"app.kubernetes.io/name": "oauth2-proxy", "ray.io/is-ray-node": "yes"}, "elsewhere"),
    "neighbour": Pod({}),
}
RAY = {"ray-head", "ray-worker"}
LINE = {"code", "run"} | RAY
REACHED = {
    ("oauth2-proxy", 4180): {"ingress controller"},
    ("webserver", 3000): {"oauth2-proxy"},
    ("webserver-read", 3000): set(),
    ("code", 4000): {"webserver", "webserver-read", "daemon"},
    ("mlflow", 5000): LINE | {"metrics", "got-prepare"},
    ("vllm", 8000): LINE,
    ("ray-head", 8265): LINE | {"submitter", "operator"},
    ("ray-head", 6379): RAY,
    ("ray-head", 10001): RAY,
    ("ray-head", 8080): RAY | {"prometheus"},
    ("ray-worker", 8080): RAY | {"prometheus"},
    ("ray-worker", 8265): RAY,
    ("ray-worker", 52365): RAY,
    ("metrics", 9464): {"prometheus"},
    ("daemon", 3000): set(),
    ("run", 4000): set(),
}


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a selector of labels means who has these; an empty one means all."""
    wanted = (selector or {}).get("matchLabels", {})
    more = (selector or {}).get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in more)
    return wanted.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in more)


def lets_in(peer: dict[str, Any], pod: Pod) -> bool:
    """Whether one entry of `from` means a pod: of this namespace, unless it selects namespaces."""
    assert set(peer) <= {"podSelector", "namespaceSelector"}
    if "namespaceSelector" in peer:
        near = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace})
    else:
        near = pod.namespace == HOME
    return near and selects(peer.get("podSelector"), pod.labels)


def reaches(source: Pod, target: Pod, port: int) -> bool:
    """Whether the policies let one pod connect to a port of another one. Rules of all that select it add up;
    who is selected by none is open."""
    specs = [one["spec"] for _, one in manifests() if one["kind"] == "NetworkPolicy"]
    about = [one for one in specs if selects(one["podSelector"], target.labels)]
    if not about:
        return True
    assert all(one["policyTypes"] == ["Ingress"] for one in about)
    return any(
        port in [one["port"] for one in rule.get("ports", [{"port": port}])]
        and any(lets_in(peer, source) for peer in rule["from"])
        for one in about
        for rule in one.get("ingress", [])
    )


@pytest.mark.parametrize(("target", "port"), REACHED)
def test_a_port_is_reached_by_those_who_need_it_alone(target: str, port: int) -> None:
    found = {name for name, pod in PODS.items() if name != target and reaches(pod, PODS[target], port)}
    assert found == REACHED[target, port] - {target}


@pytest.mark.parametrize(
    "target", sorted(set(PODS) - {"ingress controller", "operator", "prometheus", "anybody"})
)
def test_no_other_port_is_open(target: str) -> None:
    """A port that nobody listens at, as one that a later version opens."""
    found = {name for name, pod in PODS.items() if name != target and reaches(pod, PODS[target], 1)}
    assert found == (RAY - {target} if target in RAY else set())


def test_the_page_has_the_same_table() -> None:
    section = (
        (ROOT / "docs" / "cluster.md")
        .read_text()
        .partition("### Ports on Kubernetes")[2]
        .partition("\n## ")[0]
    )
    told: dict[tuple[str, int], set[str]] = {}
    for pods, ports, sources in re.findall(
        r"^\| ([a-z0-9, -]+) \| ([\d, ]+) \| (.+?) \|$", section, re.MULTILINE
    ):
        for pod in pods.split(", "):
            for port in ports.split(", "):
                named = set() if sources.startswith("nobody") else set(sources.split(", "))
                told[pod, int(port)] = named - {pod}
    expected = {
        key: sources - {key[0]} for key, sources in REACHED.items() if key[1] in LISTENING.get(key[0], set())
    }
    assert told == expected


def networks(service: str) -> set[str]:
    return set(compose()["services"][service]["networks"])


def near(service: str) -> set[str]:
    """Services on a network with one."""
    return {name for name in compose()["services"] if name != service and networks(name) & networks(service)}


def test_what_people_reach_is_on_no_network_with_what_asks_nobody_for_a_name() -> None:
    assert near("nginx") == {"webserver", "webserver-read", "mlflow", "oauth2-proxy", "grafana"}
    assert near("oauth2-proxy") == near("nginx") - {"oauth2-proxy"} | {"nginx"}
    assert near("grafana") == {"prometheus", "nginx", "oauth2-proxy"}
    inside = {name for name, one in compose()["networks"].items() if one}
    assert inside == {"inner", "front", "watch"}
    assert all(compose()["networks"][name] == {"internal": True} for name in inside)
    assert networks("nginx") & networks("grafana") == {"edge"}
    for service in compose()["services"]:
        assert "edge" not in networks(service) or service in ("nginx", "oauth2-proxy", "grafana")


FILES = {
    "nginx.conf": "nginx",
    "access-oauth.conf": "nginx",
    "prometheus.yml": "prometheus",
    "grafana/datasource.yaml": "grafana",
    "mlflow_auth.ini": "mlflow",
}


def asked() -> dict[str, set[str]]:
    """Services with those whose address they are told: by their file, or by their variables."""
    found: dict[str, set[str]] = {name: set() for name in compose()["services"]}
    for file, service in FILES.items():
        text = re.sub(r"^\s*#.*", "", (CLUSTER / file).read_text(), flags=re.MULTILINE)
        found[service] |= {host for host, _ in ADDRESS.findall(text)}
    found["prometheus"] |= set(
        re.findall(r"names: \[(.+)\]", (CLUSTER / "prometheus.yml").read_text())[0].split(", ")
    )
    known = environment_file()[0]
    hosts = {"POSTGRES_HOST": known["POSTGRES_HOST"], "DAGSTER_CODE_HOST": known["DAGSTER_CODE_HOST"]}
    for service in found:
        for name, value in environment_of(service).items():
            value = re.sub(r"\$\{(\w+)\}", lambda one: known[one[1]], value)
            found[service] |= {host for host, _ in ADDRESS.findall(value)}
            found[service] |= {hosts[name]} if name in hosts else set()
    return {name: {one for one in hosts if one in found and one != name} for name, hosts in found.items()}


def test_who_is_told_an_address_is_on_a_network_with_it() -> None:
    told = asked()
    assert told["nginx"] == {"webserver", "webserver-read", "mlflow", "oauth2-proxy"}
    assert told["prometheus"] == {"metrics", "vllm", "ray-head", "ray-worker"}
    assert {"postgres", "s3", "mlflow", "ray-head", "vllm", "code"} <= told["daemon"]
    for service, hosts in told.items():
        assert hosts <= near(service), f"{service} does not reach {hosts - near(service)}"


def test_who_uses_the_store_has_its_keys_and_who_loads_from_outside_a_way_out() -> None:
    for service, one in compose()["services"].items():
        if "AWS_DEFAULT_REGION" in environment_of(service) or service == "s3":
            assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(one["secrets"]), service
            assert service == "s3" or "out" in networks(service), "the store may be elsewhere"
    assert "out" in networks("vllm"), "its weights come from outside"


def test_health_is_asked_for_where_a_service_listens() -> None:
    (check,) = [one for one in compose()["services"]["mlflow"]["healthcheck"]["test"] if "urlopen" in one]
    assert {int(port) for port in re.findall(r"localhost:(\d+)", check)} == LISTENING["mlflow"]
