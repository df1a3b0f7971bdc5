"""What the files say of the image: its folders, its user, and where things are copied."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from .files import CLUSTER, compose, manifests, texts, values

TEXT = (CLUSTER / "Dockerfile").read_text()
FILE = re.compile(r"/opt/[\w./-]+")


def environment() -> dict[str, str]:
    """Variables of the image."""
    text = re.sub(r"\\\n", " ", TEXT)
    return dict(
        one.split("=", 1) for line in re.findall(r"^ENV (.+)$", text, re.M) for one in shlex.split(line)
    )


def copied() -> set[str]:
    """Absolute paths of the files that the image gets from the repository."""
    found = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        *sources, target = (word for word in line.split() if not word.startswith("--"))
        if target.startswith("/"):
            found |= {
                f"{target}{source.rpartition('/')[2]}" if target.endswith("/") else target
                for source in sources
            }
    return found


def named() -> Iterator[tuple[str, str]]:
    """Paths below /opt that files name, with the file."""
    places: list[tuple[str, Any]] = [("compose.yaml", compose()), *manifests()]
    places += [(f"{chart}-values.yaml", values(chart)) for chart in ("dagster", "mlflow")]
    for file, one in places:
        for text in texts(one):
            yield from ((file, path) for path in FILE.findall(text))


def test_paths_in_the_image_are_those_of_the_dockerfile() -> None:
    home = environment()["DAGSTER_HOME"]
    assert {f"{home}/dagster.yaml", f"{home}/workspace.yaml"} <= copied()
    paths = set(named())
    assert {file for file, _ in paths} >= {
        "compose.yaml",
        "servers.yaml",
        "dagster-values.yaml",
        "mlflow-values.yaml",
    }
    for file, path in paths:
        assert path in copied() | {home}, f"{file} names {path}"
    assert values("dagster")["global"]["dagsterHome"] == home
    assert re.search(r'^ENTRYPOINT \["(.+)"\]$', TEXT, re.MULTILINE)[1] in copied()  # type: ignore[index]


def test_packages_are_copied_from_where_they_are_installed_to_where_they_are_looked_for() -> None:
    made = re.findall(r"python -m venv (\S+)", TEXT)
    copies = re.findall(r"^COPY --from=(\S+) (\S+) (\S+)$", TEXT, re.MULTILINE)
    stages = set(re.findall(r"^FROM build AS (build-\w+)$", TEXT, re.MULTILINE))
    assert {source for source, *_ in copies} == stages and len(stages) == 2
    assert {path for _, *paths in copies for path in paths} == set(made)
    assert environment()["PATH"] == f"{made[0]}/bin:$PATH"
    assert f"chown got:got {environment()['DAGSTER_HOME']}" in TEXT


def test_volumes_lie_where_the_user_of_the_image_may_write() -> None:
    folder = re.search(r"--home-dir (\S+)", TEXT)
    assert folder and environment()["GOT_HOME"].startswith(f"{folder[1]}/")
    assert f"mkdir -p {environment()['DAGSTER_HOME']}" in TEXT
    for service, one in compose()["services"].items():
        if str(one["image"]).startswith("${CLUSTER_IMAGE"):
            for volume in one.get("volumes", []):
                assert volume.split(":")[1] == folder[1], service


def test_pods_run_as_the_user_of_the_image() -> None:
    user = set(re.findall(r"--uid (\d+)", TEXT)) | set(re.findall(r"--gid (\d+)", TEXT))
    (number,) = {int(one) for one in user}
    plain = [one for _, one in manifests()] + [values("dagster"), values("mlflow")]
    found = [one for whole in plain for one in contexts(whole)]
    assert len(found) > 8
    for one in found:
        assert one["runAsNonRoot"] is True and one["runAsUser"] == number
        assert one.get("runAsGroup", number) == one["fsGroup"] == number


def contexts(value: Any) -> Iterator[dict[str, Any]]:
    """All settings of pods that name a user."""
    if isinstance(value, dict):
        if "runAsUser" in value:
            yield value
        for one in value.values():
            yield from contexts(one)
    elif isinstance(value, list):
        for one in value:
            yield from contexts(one)


def test_the_image_has_the_tag_that_all_files_name() -> None:
    ours = {"registry.example.com/got:cpu", "registry.example.com/got:cuda"}
    boxes = [text for _, one in manifests() for text in texts(one) if text.startswith("registry.")]
    for chart, parts in (
        ("dagster", ("dagsterWebserver", "dagsterDaemon")),
        ("mlflow", ("image",)),
    ):
        for part in parts:
            image = values(chart)[part] if part == "image" else values(chart)[part]["image"]
            boxes.append(f"{image['repository']}:{image['tag']}")
    (code,) = values("dagster")["dagster-user-deployments"]["deployments"]
    boxes.append(f"{code['image']['repository']}:{code['image']['tag']}")
    assert set(boxes) == ours
    ray = [text for _, one in manifests() if one["apiVersion"].startswith("ray.io/") for text in texts(one)]
    assert {text for text in ray if text.startswith("registry.")} == {"registry.example.com/got:cuda"}


def test_one_header_names_a_person_and_the_proxy_sets_it() -> None:
    instance = yaml.safe_load((CLUSTER / "dagster.yaml").read_text())["run_coordinator"]["config"]["header"]
    nginx = (CLUSTER / "nginx.conf").read_text()
    assert re.findall(r"proxy_set_header (\S+) \$access_user;", nginx) == [instance]
    for file in ("access-basic.conf", "access-oauth.conf"):
        assert "set $access_user " in (CLUSTER / file).read_text()
    custom = values("dagster")["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    (proxy,) = [
        one
        for _, one in manifests()
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "oauth2-proxy"
    ]
    (box,) = proxy["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value") for one in box["env"]}
    assert given["OAUTH2_PROXY_PASS_USER_HEADERS"] == "true"
    assert custom["config"]["header"] == "X-Forwarded-Email", (
        "what oauth2-proxy sets with that, and overwrites"
    )
    chart = values("dagster")["dagsterWebserver"]
    upstream = f"http://dagster-{chart['nameOverride']}:{chart['service']['port']}"
    assert given["OAUTH2_PROXY_UPSTREAMS"] == upstream
    assert chart["readinessProbe"]["httpGet"]["port"] == chart["service"]["port"]
