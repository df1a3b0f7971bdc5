"""Objects follow Kubernetes' schemas, charts are given keys that they have, and names agree."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from .files import chart_keys, compose, environment_file, manifests, references, values

VERSION = "1.34"
"""Of Kubernetes."""

CORE = [one for one in manifests() if not one[1]["apiVersion"].startswith("ray.io/")]
RAY = {one["kind"]: one for _, one in manifests() if one["apiVersion"].startswith("ray.io/")}


@pytest.mark.parametrize(
    "one", [one for _, one in CORE], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_objects_follow_the_schema(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(copy.deepcopy(one), VERSION, strict=True)


def test_the_schema_finds_a_wrong_key() -> None:
    wrong = copy.deepcopy(next(one for _, one in CORE if one["kind"] == "Deployment"))
    wrong["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def pod_templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """Templates of Ray's pods: their own schema is that of core pods."""
    for kind, one in RAY.items():
        spec = one["spec"]["rayClusterSpec"] if kind == "RayJob" else one["spec"]
        yield f"{kind} head", spec["headGroupSpec"]["template"]
        yield from ((f"{kind} {group['groupName']}", group["template"]) for group in spec["workerGroupSpecs"])


@pytest.mark.parametrize(
    ("name", "template"), pod_templates(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_ray_pods_follow_the_schema(name: str, template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **copy.deepcopy(template)}
    kubernetes_validate.validate(pod, VERSION, strict=True)


def unknown(value: Any, names: dict[str, Any] | None, path: str = "") -> Iterator[str]:
    """Paths of keys that are not among the names; below a name without names nothing is looked at."""
    if names is None:
        return
    for one in value if isinstance(value, list) else [value]:
        for key in one if isinstance(one, dict) else ():
            if key not in names:
                yield f"{path}.{key}"
            else:
                yield from unknown(one[key], names[key], f"{path}.{key}")


@pytest.mark.parametrize("release", chart_keys()["kuberay"]["keys"])
@pytest.mark.parametrize("kind", RAY)
def test_ray_objects_have_keys_of_their_definitions(kind: str, release: str) -> None:
    names = chart_keys()["kuberay"]["keys"][release][kind]
    assert list(unknown(RAY[kind]["spec"], names)) == []
    wrong = copy.deepcopy(RAY[kind]["spec"])
    wrong.get("rayClusterSpec", wrong)["workerGroupSpecs"][0]["maxReplica"] = 1
    assert [one.rpartition(".")[2] for one in unknown(wrong, names)] == ["maxReplica"]


def test_ray_asks_for_its_token() -> None:
    for spec in (RAY["RayCluster"]["spec"], RAY["RayJob"]["spec"]["rayClusterSpec"]):
        assert spec["authOptions"]["mode"] == "token"


@pytest.mark.parametrize("chart", ["dagster", "mlflow"])
def test_charts_are_given_keys_that_they_have(chart: str) -> None:
    given, names = values(chart), chart_keys()[chart]["keys"]
    assert list(unknown(given, names)) == []
    wrong = {
        **given,
        "image": {"repository": "x", "tga": "x"},
        "dagsterDaemon": {"runRetries": {"retries": 1}},
    }
    found = {
        "dagster": [".image", ".dagsterDaemon.runRetries.retries"],
        "mlflow": [".image.tga", ".dagsterDaemon"],
    }
    assert sorted(unknown(wrong, names)) == sorted(found[chart])


def test_retention_names_all_kinds_of_ticks_as_the_schema_demands() -> None:
    kinds = chart_keys()["dagster"]["keys"]["retention"]["sensor"]["purgeAfterDays"]
    assert set(values("dagster")["retention"]["sensor"]["purgeAfterDays"]) == set(kinds)


def test_parts_of_charts_that_are_core_kinds_follow_the_schema() -> None:
    for name, container, pod in containers_of_charts():
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": {**pod, "containers": [container]},
        }
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
            raise AssertionError(name) from error


def containers_of_charts() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Containers and pods as the charts put them together from values."""
    dagster, mlflow = values("dagster"), values("mlflow")
    (code,) = dagster["dagster-user-deployments"]["deployments"]
    for name, one in (
        ("webserver", dagster["dagsterWebserver"]),
        ("daemon", dagster["dagsterDaemon"]),
        ("code", code),
    ):
        assert "envSecrets" not in one, "all of a Secret is more than any of them needs"
        sources = [{"configMapRef": two} for two in one["envConfigMaps"]]
        container = {
            "name": name, "image": "x", "envFrom": sources, "securityContext": one["securityContext"],
            "env": one.get("env", []), "resources": one.get("resources", {}),
        }  # fmt: skip
        yield name, container, {"securityContext": one["podSecurityContext"]}
    launched = dagster["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    yield "run", {"name": "run", "image": "x", **launched["containerConfig"]}, launched["podSpecConfig"]
    container = {"name": "mlflow", "image": "x", "env": mlflow["env"]}
    yield "mlflow", container, {"securityContext": mlflow["podSecurityContext"]}


def everything() -> list[Any]:
    return [one for _, one in manifests()] + [values("dagster"), values("mlflow")]


def test_secrets_are_references_to_keys_that_are_told_of() -> None:
    secrets = environment_file()[1]
    keys = (secrets - {"RAY_AUTH_TOKEN", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"}) | {
        "postgresql-password"
    }
    named = {(one["name"], one["key"]) for one in references(everything(), "secretKeyRef")}
    assert named and {name for name, _ in named} == {"got", "got-ray"}
    assert {key for name, key in named if name == "got"} <= keys
    assert {key for name, key in named if name == "got-ray"} == {"auth_token"}
    assert not [one for _, one in manifests() if one["kind"] == "Secret"], "a Secret in a file is none"


def test_config_maps_have_the_keys_that_are_asked_for() -> None:
    (config,) = [one for _, one in manifests() if one["kind"] == "ConfigMap"]
    asked = list(references(everything(), "configMapKeyRef"))
    whole = list(references(everything(), "configMapRef"))
    assert asked and whole
    assert {one["name"] for one in [*asked, *whole]} == {config["metadata"]["name"]}
    assert {one["key"] for one in asked} <= set(config["data"])


@pytest.mark.parametrize(("service", "name"), [("metrics", "metrics"), ("prepare", "got-prepare")])
def test_pods_have_the_variables_of_their_compose_service(service: str, name: str) -> None:
    (config,) = [one["data"] for _, one in manifests() if one["kind"] == "ConfigMap"]
    one = compose()["services"][service]
    wanted = {*one["environment"], *one["secrets"]} - {"DAGSTER_CODE_HOST", "DAGSTER_CODE_PORT"}
    (pod,) = [
        one["spec"]["template"]["spec"]
        for _, one in CORE
        if one["kind"] in ("Deployment", "Job") and one["metadata"]["name"] == name
    ]
    (box,) = pod["containers"]
    assert wanted <= {*config, *(one["name"] for one in box["env"])}


def test_the_operator_and_the_code_server_have_one_token() -> None:
    (code,) = values("dagster")["dagster-user-deployments"]["deployments"]
    (token,) = [one for one in code["env"] if one["name"] == "RAY_AUTH_TOKEN"]
    for spec in (RAY["RayCluster"]["spec"], RAY["RayJob"]["spec"]["rayClusterSpec"]):
        assert spec["authOptions"]["secretName"] == token["valueFrom"]["secretKeyRef"]["name"]


def test_addresses_are_those_of_the_environment_file() -> None:
    known, secrets = environment_file()
    (config,) = [one["data"] for _, one in manifests() if one["kind"] == "ConfigMap"]
    assert not set(config) & secrets
    other = {
        "GOT_RAY_JOBS": known["GOT_RAY_JOBS"].replace("ray-head", "got-ray-head-svc"),
        "GOT_PARALLEL": "32",
    }
    for name, value in config.items():
        assert value == other.get(name, known.get(name)), name
    head = RAY["RayCluster"]["metadata"]["name"]
    assert config["GOT_RAY_JOBS"].startswith(f"http://{head}-head-svc:"), (
        "KubeRay names the head's service so"
    )


def test_services_are_named_as_addresses_name_them() -> None:
    services = {one["metadata"]["name"] for _, one in manifests() if one["kind"] == "Service"}
    services |= {values("mlflow")["fullnameOverride"], "got-ray-head-svc", "dagster-webserver"}
    named = set()
    for one in everything():
        named |= set(re.findall(r"(?:https?://|@)([a-z][a-z0-9-]+)(?::\d+)", str(one)))
    assert named and named <= services, sorted(named - services)
    assert values("dagster")["dagsterWebserver"]["nameOverride"] == "webserver"


def test_selectors_meet_pods_and_ports_have_names() -> None:
    pods = {}
    for _, one in manifests():
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            assert one["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            ports = {port["name"] for box in template["spec"]["containers"] for port in box["ports"]}
            pods[template["metadata"]["labels"]["app.kubernetes.io/name"]] = ports
    for _, one in manifests():
        if one["kind"] == "Service" and "selector" in one["spec"]:
            ports = pods[one["spec"]["selector"]["app.kubernetes.io/name"]]
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def test_no_service_is_published_by_the_cluster() -> None:
    services = [one["spec"] for _, one in manifests() if one["kind"] == "Service"]
    assert services and all(one.get("type") in (None, "ExternalName") for one in services)
    assert values("dagster")["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert all(
        spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        for spec in (RAY["RayCluster"]["spec"], RAY["RayJob"]["spec"]["rayClusterSpec"])
    )


def test_images_are_those_of_the_compose_file() -> None:
    services = compose()["services"]
    found = {
        box["image"]
        for _, one in CORE
        if one["kind"] == "Deployment"
        for box in one["spec"]["template"]["spec"]["containers"]
    }
    ours = {image for image in found if image.startswith("registry.example.com/")}
    assert ours == {"registry.example.com/got:cpu"}
    assert found - ours == {services[name]["image"] for name in ("vllm", "oauth2-proxy")}


def test_vllm_is_given_what_compose_gives_it() -> None:
    (box,) = next(
        one for _, one in CORE if one["metadata"]["name"] == "vllm" and one["kind"] == "Deployment"
    )["spec"]["template"]["spec"]["containers"]
    words = shlex.split(compose()["services"]["vllm"]["command"][0])
    start = words.index("serve") + 1
    assert box["command"] == ["vllm", "serve"]
    assert [word.replace("$(", "${").replace(")", "}") for word in box["args"]] == joined(words[start:])
    known = environment_file()[0]
    (config,) = [one["data"] for _, one in manifests() if one["kind"] == "ConfigMap"]
    assert config["GOT_ANNOTATOR_VISION_MODEL"] == known["GOT_ANNOTATOR_VISION_MODEL"]


def joined(words: list[str]) -> list[str]:
    """Options with their values as one word each."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and "=" not in found[-1] and not word.startswith("--"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def test_ray_has_the_release_of_the_lock() -> None:
    from .files import ROOT

    lock = (ROOT / "requirements" / "all.txt").read_text().splitlines()
    for spec in (RAY["RayCluster"]["spec"], RAY["RayJob"]["spec"]["rayClusterSpec"]):
        assert f"ray=={spec['rayVersion']}" in lock
