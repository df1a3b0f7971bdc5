"""The compose file follows its published schema, and what one file names another one has."""

from __future__ import annotations

import importlib.resources
import json
import re
import tomllib

import jsonschema
import pytest
import yaml

from got_core.server_settings import AnnotatorServer, JudgeServer, ServeSettings
from got_core.settings import Settings
from got_core.watch_settings import AlertSettings, MetricsSettings

from .files import CLUSTER, ROOT, VARIABLE, compose, environment_file, environment_of, texts

OPEN_TO_THE_MACHINE = {"nginx": {"8443", "8444", "8445"}, "grafana": {"3001"}}
ADDRESS = re.compile(r"\b([a-z][a-z0-9-]*):(\d{4,5})\b")


def schema() -> dict:
    """The Compose Specification's, as check-jsonschema carries it."""
    folder = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((folder / "compose-spec.json").read_text())


def test_the_compose_file_follows_its_schema() -> None:
    jsonschema.validate(compose(), schema())


def test_the_schema_finds_a_wrong_key() -> None:
    wrong = {**compose(), "services": {"x": {"imaeg": "postgres"}}}
    with pytest.raises(jsonschema.ValidationError, match="imaeg"):
        jsonschema.validate(wrong, schema())


def test_every_variable_is_in_the_environment_file_and_used() -> None:
    known, secrets = environment_file()
    text = re.sub(r"^#.*", "", (CLUSTER / "compose.yaml").read_text(), flags=re.MULTILINE)
    used = set(VARIABLE.findall(text)) | {
        one["environment"] for one in compose()["secrets"].values() if "environment" in one
    }
    assert used <= set(known), sorted(used - set(known))
    assert set(known) <= used, f"nobody reads {sorted(set(known) - used)}"
    assert not secrets & set(VARIABLE.findall(text)), "a secret would be in a container's environment"


def test_secrets_are_empty_in_the_example_and_files_in_containers() -> None:
    known, secrets = environment_file()
    assert all(known[name] == "" for name in secrets)
    named = {one["environment"]: key for key, one in compose()["secrets"].items() if "environment" in one}
    assert named == {name: name for name in secrets}, "entrypoint.sh takes the file's name for the variable's"
    for service, one in compose()["services"].items():
        assert not secrets & set(one.get("environment") or {}), f"{service} has a secret in its environment"


def test_every_secret_that_is_named_is_declared_and_the_other_way_round() -> None:
    services = compose()["services"]
    granted = {name for one in services.values() for name in one.get("secrets", [])}
    assert granted == set(compose()["secrets"])
    for service, one in services.items():
        read = set(re.findall(r"/run/secrets/(\w+)", " ".join(texts({**one, "secrets": []}))))
        assert read <= set(one.get("secrets", [])), f"{service} reads secrets that it is not given"


def test_files_that_configurations_read_are_granted() -> None:
    services = compose()["services"]
    for service, file in (
        ("nginx", "nginx.conf"),
        ("nginx", "access-basic.conf"),
        ("prometheus", "prometheus.yml"),
    ):
        read = set(re.findall(r"/run/secrets/(\w+)", (CLUSTER / file).read_text()))
        assert read and read <= set(services[service]["secrets"])


def test_mounted_files_and_volumes_exist() -> None:
    used = set()
    for service, one in compose()["services"].items():
        for volume in one.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (CLUSTER / source).is_file(), f"{service} mounts {source}"
            else:
                used.add(source)
    assert used == set(compose()["volumes"])


def test_files_are_mounted_where_their_readers_look() -> None:
    mounts = {
        volume.split(":")[0]: volume.split(":")[1]
        for one in compose()["services"].values()
        for volume in one.get("volumes", [])
        if volume.startswith("./")
    }
    assert mounts["./nginx.conf"] == "/etc/nginx/nginx.conf", "where its image reads it"
    assert f"include {mounts['./access-basic.conf']};" in (CLUSTER / "nginx.conf").read_text()
    command = compose()["services"]["prometheus"]["command"]
    assert f"--config.file={mounts['./prometheus.yml']} " in command
    provisioning = "/etc/grafana/provisioning"
    assert mounts["./grafana/datasource.yaml"].startswith(f"{provisioning}/datasources/")
    assert mounts["./grafana/provider.yaml"].startswith(f"{provisioning}/dashboards/")
    kept = {one.split(":")[1] for one in compose()["services"]["prometheus"]["volumes"]}
    assert set(re.findall(r"--storage.tsdb.path=(\S+)", command)) <= kept


def test_networks_and_dependencies_exist() -> None:
    services = compose()["services"]
    for service, one in services.items():
        assert set(one["networks"]) <= set(compose()["networks"]), service
        wanted = set(one.get("depends_on", {}))
        assert wanted <= set(services), f"{service} waits for {wanted}"
        if isinstance(one.get("depends_on"), dict):
            for name, how in one["depends_on"].items():
                if how["condition"] == "service_healthy":
                    assert "healthcheck" in services[name], f"{service} waits for the health of {name}"


def test_nothing_but_the_proxy_is_reached_from_outside() -> None:
    published = {
        service: {port.split(":")[-2] for port in one["ports"]}
        for service, one in compose()["services"].items()
        if one.get("ports")
    }
    assert published == OPEN_TO_THE_MACHINE
    assert all(port.startswith("127.0.0.1:") for port in compose()["services"]["grafana"]["ports"])
    for service in ("postgres", "s3"):
        assert compose()["services"][service]["networks"] == ["inner"]


LISTENING = {
    "postgres": {5432},
    "s3": {9000},
    "code": {4000},
    "webserver": {3000},
    "webserver-read": {3000},
    "mlflow": {5000},
    "ray-head": {6379, 8265, 8080, 10001, 6380, 6381, 6382, 6383, 52365},
    "ray-worker": {8080, 6380, 6381, 6382, 6383, 52365},
    "vllm": {8000},
    "oauth2-proxy": {4180},
    "metrics": {9464},
    "prometheus": {9090},
    "nginx": {8443, 8444, 8445},
}
"""Where a service listens: by its command, or by its image's default."""

DEFAULTS = {"postgres": {5432}, "prometheus": {9090}}


def listening(service: str) -> set[int]:
    """Ports that the files say a service listens at."""
    one = compose()["services"][service]
    known = environment_file()[0]
    words = " ".join([*texts(one.get("command", "")), *environment_of(service).values()])
    words = VARIABLE.sub(lambda found: known[found[1]], words.replace("${", "${")).replace("}", "")
    ports = re.findall(r"(?:-p|--port|--[a-z-]+-port|--address)[ =](?:0\.0\.0\.0)?:?(\d{4,5})\b", words)
    ports += re.findall(r"0\.0\.0\.0:(\d+)", words)
    if service == "nginx":
        ports += re.findall(r"listen (\d+)", (CLUSTER / "nginx.conf").read_text())
    if service == "metrics":
        ports.append(environment_of(service)["GOT_METRICS_PORT"])
    return {int(port) for port in ports if int(port) < 20000 or int(port) > 20999} | DEFAULTS.get(
        service, set()
    )


@pytest.mark.parametrize("service", LISTENING)
def test_services_listen_where_they_are_said_to(service: str) -> None:
    assert listening(service) == LISTENING[service]


def addresses() -> set[tuple[str, int, str]]:
    """Every service:port that a file names."""
    found = set()
    files = [
        *CLUSTER.glob("*.conf"),
        *CLUSTER.glob("*.yml"),
        CLUSTER / "mlflow_auth.ini",
        CLUSTER / ".env.example",
        CLUSTER / "grafana" / "datasource.yaml",
        CLUSTER / "compose.yaml",
    ]
    for path in files:
        text = re.sub(r"^\s*#.*", "", path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^\s*image:.*", "", text, flags=re.MULTILINE)
        found |= {(host, int(port), path.name) for host, port in ADDRESS.findall(text)}
    return {one for one in found if one[0] not in ("localhost", "got")}


def test_prometheus_looks_up_names_that_there_are() -> None:
    jobs = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())["scrape_configs"]
    looked_up = [one for job in jobs for one in job.get("dns_sd_configs", [])]
    assert [(name, one["port"]) for one in looked_up for name in one["names"]] == [
        ("ray-head", 8080),
        ("ray-worker", 8080),
    ]
    assert all(one["port"] in LISTENING[name] for one in looked_up for name in one["names"])


def test_every_address_is_a_service_that_listens_there() -> None:
    assert len(addresses()) > 12
    for host, port, file in addresses():
        assert host in LISTENING, f"{file} names {host}"
        assert port in LISTENING[host], f"{file} names {host}:{port}"
    known = environment_file()[0]
    assert int(known["POSTGRES_PORT"]) in LISTENING[known["POSTGRES_HOST"]]
    assert int(known["DAGSTER_CODE_PORT"]) in LISTENING[known["DAGSTER_CODE_HOST"]]


def test_settings_of_the_project_exist() -> None:
    kinds = {
        "ANNOTATOR": AnnotatorServer,
        "JUDGE": JudgeServer,
        "SERVE": ServeSettings,
        "ALERT": AlertSettings,
        "METRICS": MetricsSettings,
    }
    known = {f"GOT_{name.upper()}" for name in Settings.model_fields}
    known |= {f"GOT_{kind}_{name.upper()}" for kind, one in kinds.items() for name in one.model_fields}
    named = {name for name in environment_file()[0] if name.startswith("GOT_")}
    named |= {
        name
        for service in compose()["services"]
        for name in environment_of(service)
        if name.startswith("GOT_")
    }
    assert named <= known, sorted(named - known)


def test_images_of_foreign_servers_have_a_version() -> None:
    for service, one in compose()["services"].items():
        image = one["image"]
        assert image.startswith("${CLUSTER_IMAGE") or re.search(r":[\w.-]*\d", image), f"{service}: {image}"
    vllm = compose()["services"]["vllm"]["image"]
    lock = (ROOT / "deployments" / "vllm" / "lock-gpu.txt").read_text()
    assert f"vllm=={vllm.rpartition(':v')[2]}" in lock.splitlines()


def test_vllm_gets_the_arguments_of_the_script() -> None:
    script = (ROOT / "deployments" / "vllm" / "serve.sh").read_text()
    options = re.findall(
        r"(--(?!dtype|enforce|max-num|model|served|host|port)[a-z-]+)", script.rpartition("exec ")[2]
    )
    command = " ".join(compose()["services"]["vllm"]["command"])
    assert len(options) == 4 and all(option in command for option in options)


def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody_of_weight() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)", text, re.MULTILINE)
    assert {"cpu", "cuda"} <= {name for _, name in stages}
    assert all(base == "final" for base, name in stages if name in ("cpu", "cuda"))
    last = text.split("AS final")[1].split("FROM final")[0]
    assert "\nUSER got\n" in last and "USER root" not in text
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        sources = [word for word in line.split()[:-1] if not word.startswith("--")]
        assert all((ROOT / source).exists() for source in sources), line
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in re.findall(r"'\.\[(.+?)\]'", text):
        assert set(line.split(",")) <= set(extras)
    assert text.count("-c requirements/all.txt") == 2
    assert not set(environment_file()[1]) & set(re.findall(r"\w+", text))


def test_images_are_built_from_stages_of_the_dockerfile() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE))
    built = {one["image"]: one["build"] for one in compose()["services"].values() if "build" in one}
    assert set(built) == {one["image"] for one in compose()["services"].values() if "${" in one["image"]}
    assert {one["target"] for one in built.values()} == {"cpu", "cuda"} <= stages
    for one in built.values():
        top = (CLUSTER / one["context"]).resolve()
        assert top == ROOT and (top / one["dockerfile"]).is_file()


def test_the_image_has_the_libraries_that_the_rule_of_text_asks_for() -> None:
    message = re.search(
        r"apt-get \"\s+\"install ([a-z0-9. -]+),", (ROOT / "got_core/curate/signals.py").read_text()
    )
    installed = re.findall(r"apt-get install ([^&]+)", (CLUSTER / "Dockerfile").read_text())
    assert message and set(message[1].split()) <= set(installed[0].split())


def test_the_page_says_how_each_secret_is_changed() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text().partition("## Changing keys")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    told = {name: row[3] for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(told) == environment_file()[1]
    for secret, made_anew in told.items():
        services = {name for name, one in compose()["services"].items() if secret in one.get("secrets", [])}
        services -= {"postgres"}  # which reads passwords at its first start alone
        named = set(re.findall(r"[a-z0-9-]+", made_anew)) & set(compose()["services"])
        if made_anew.strip().startswith("all but"):
            named = set(compose()["services"]) - named
        elif made_anew.strip() == "nothing":
            continue
        assert services <= named, f"{secret}: {services - named}"


def test_secret_files_reach_no_image_and_no_commit() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    git = (ROOT / ".gitignore").read_text().splitlines()
    for name in ("deployments/cluster/.env", "deployments/cluster/htpasswd*", "deployments/cluster/tls"):
        assert name in ignored
    assert {".env", "deployments/cluster/htpasswd*", "deployments/cluster/tls/"} <= set(git)


def test_the_workspace_names_the_graph() -> None:
    (one,) = yaml.safe_load((CLUSTER / "workspace.yaml").read_text())["load_from"]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert one["grpc_server"]["location_name"] == tools["dagster"]["code_location_name"]
    command = compose()["services"]["code"]["command"]
    assert f"-m {tools['dagster']['module_name']} " in command
    assert f"--location-name {one['grpc_server']['location_name']}" in command
    assert {one["grpc_server"][key]["env"] for key in ("host", "port")} <= set(environment_of("webserver"))


def test_the_page_says_of_each_port_who_reaches_it() -> None:
    page = (
        (ROOT / "docs" / "cluster.md").read_text().partition("### Ports with compose")[2].partition("\n##")[0]
    )
    rows = re.findall(r"^\| ([a-z0-9, -]+) \| ([\d, -]+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    told: dict[str, set[int]] = {}
    for services, ports, _, reached in rows:
        for service in services.split(", "):
            told.setdefault(service, set()).update(int(one) for one in ports.split(", ") if "-" not in one)
            outside = bool(compose()["services"][service].get("ports"))
            assert reached.startswith(("outside", "loopback")) == outside, (service, ports)
    assert told == {**LISTENING, "grafana": {3000}}
    command = compose()["services"]["ray-worker"]["command"]
    low, high = re.findall(r"--m(?:in|ax)-worker-port=(\d+)", command)
    assert f"{low}-{high}" in page
