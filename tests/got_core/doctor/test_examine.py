"""The doctor's checks against real files, servers on loopback, and what does not answer."""

from __future__ import annotations

import http.server
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from got_core.doctor import machine, services, versions, web
from got_core.doctor.benchmarks import check_benchmarks
from got_core.doctor.examine import examine, run_checks
from got_core.doctor.finding import Finding, fail, ok, warn, worst
from got_core.doctor.foundation import check_foundation
from got_core.model.formats import foundation_folder
from got_core.model.formats.foundation_folder import architecture
from got_core.recipes import tiny
from got_core.registry.tracking import connect
from got_core.server_settings import AnnotatorServer
from got_core.settings import Settings
from tests.ports import free_port

KEY = "sk-not-to-be-shown"
VISION = "Qwen2.5-VL-7B-Instruct"


class Server(http.server.ThreadingHTTPServer):
    """Answers every path as it is told; remembers who asked with which key."""

    answers: dict[str, tuple[int, bytes]]
    asked: list[tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        status, body = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", body.decode())
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(**answers: tuple[int, bytes]) -> Server:
        one = Server(("127.0.0.1", 0), Handler)
        one.answers = {path.replace("__", "/"): answer for path, answer in answers.items()}
        one.asked = []
        threading.Thread(target=one.serve_forever, daemon=True).start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


@pytest.fixture
def down() -> str:
    """An address of this machine where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(home=tmp_path / "home", **given)


def annotated_by(tmp_path: Path, url: str, **given: Any) -> Settings:
    given = {"vision_model": VISION, "key": KEY} | given
    return settings(tmp_path, annotator="openai", annotator_server=AnnotatorServer(url=url, **given))


# -- the machine --------------------------------------------------------------------------------------


def test_matrix_instructions_are_told_from_the_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: avx2 avx512f amx_bf16\n\nprocessor\t: 1\n"
    )
    found = machine.check_processor(info).found
    assert "Xeon" in found and "bf16 matrix instructions (AMX), AVX-512, AVX2" in found
    info.write_text("model name\t: Old\nflags\t\t: avx2\n")
    assert "no bf16 matrix instructions" in machine.check_processor(info).found
    assert machine.check_processor(tmp_path / "none").state == "ok"


def test_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n")
    limit.write_text("max\n")
    assert machine.check_memory(info, limit).state == "ok"
    limit.write_text(str(4 * 10**9))
    found = machine.check_memory(info, limit)
    assert (found.state, found.found) == ("warn", "4.0 GB, 4.0 GB free")
    assert machine.check_memory(tmp_path / "none", limit).state == "warn"


def test_the_disk_of_a_home_that_is_not_there_yet(tmp_path: Path) -> None:
    assert "GB free at" in machine.check_disk(tmp_path / "a" / "b").found
    assert not (tmp_path / "a").exists()


def test_the_installed_packages_are_inside_their_ranges() -> None:
    found = versions.check_packages("core")
    assert found.state == "ok" and "torch 2." in found.found
    assert versions.check_python().state == "ok"
    names = {one.name for one in versions._requirements("pipeline")}
    assert {"dagster", "ray"} <= names and not names & {"torch", "ruff", "rapidocr-onnxruntime"}


# -- storage ------------------------------------------------------------------------------------------


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    fresh = settings(tmp_path)
    assert services.check_storage(fresh).found.endswith("will be made")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store").mkdir()
    assert services.check_storage(settings(tmp_path, storage=str(tmp_path / "store"))).state == "ok"
    assert list((tmp_path / "store").iterdir()) == []
    (tmp_path / "file").touch()
    assert services.check_storage(settings(tmp_path, storage=str(tmp_path / "file"))).state == "fail"


def test_a_bucket_is_tried_and_left_as_it_was(tmp_path: Path, s3_server: Any) -> None:
    there = settings(tmp_path, storage=f"s3://{s3_server.bucket}/store", s3_endpoint=s3_server.url)
    found = services.check_storage(there)
    assert (found.state, "wrote, read and deleted" in found.found) == ("ok", True), found
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=s3_server.url, skip_instance_cache=True)
    assert fs.find(s3_server.bucket) == []
    assert services.check_s3(there).state == "ok"
    missing = settings(tmp_path, storage="s3://no-such-bucket/store", s3_endpoint=s3_server.url)
    assert services.check_storage(missing).state == "fail"


def test_a_store_that_is_down_is_told_within_seconds(
    tmp_path: Path, down: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    there = settings(tmp_path, storage="s3://bucket/store", s3_endpoint=down)
    found = services.check_storage(there)
    assert found.state == "fail" and down in found.found and "GOT_STORAGE" in found.advice
    assert services.check_s3(there).state == "fail"


# -- MLflow and Ray -----------------------------------------------------------------------------------


def test_a_tracking_database_is_only_read(tmp_path: Path) -> None:
    fresh = settings(tmp_path)
    assert services.check_mlflow(fresh).found.endswith("will be made")
    assert not fresh.home.exists()
    connect(fresh.tracking_uri)
    before = (fresh.home / "mlflow" / "mlflow.db").read_bytes()
    assert services.check_mlflow(fresh).found.endswith("0 registered versions")
    assert (fresh.home / "mlflow" / "mlflow.db").read_bytes() == before
    sqlite3.connect(tmp_path / "other.db").execute("create table x (y)")
    assert (
        services.check_mlflow(settings(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/other.db")).state == "fail"
    )


def test_a_tracking_server(tmp_path: Path, server: Callable[..., Server], down: str) -> None:
    good, other = server(__health=(200, b"OK")), server()
    named = good.url.replace("//", "//ada:secret@")
    found = services.check_mlflow(settings(tmp_path, mlflow_uri=named))
    assert found.state == "ok" and "secret" not in found.found
    assert good.asked == [("/health", "Basic YWRhOnNlY3JldA==")]
    found = services.check_mlflow(settings(tmp_path, mlflow_uri=other.url))
    assert (found.state, "HTTP 404" in found.found) == ("fail", True)
    found = services.check_mlflow(settings(tmp_path, mlflow_uri=down.replace("//", "//ada:secret@")))
    assert found.state == "fail" and "secret" not in found.found + found.advice
    assert "GOT_MLFLOW_URI" in found.advice


def test_a_ray_address(tmp_path: Path, server: Callable[..., Server], down: str) -> None:
    assert services.check_ray(settings(tmp_path)).state == "ok"
    up = server().url.removeprefix("http://")
    assert services.check_ray(settings(tmp_path, ray_address=up)).state == "ok"
    assert services.check_ray(settings(tmp_path, ray_address=f"ray://{up}")).state == "ok"
    for address in (down.removeprefix("http://"), "ray://[", "host:port"):
        found = services.check_ray(settings(tmp_path, ray_address=address))
        assert found.state == "fail" and "GOT_RAY_ADDRESS" in found.advice


# -- the annotator ------------------------------------------------------------------------------------


def models(*names: str) -> tuple[int, bytes]:
    return 200, json.dumps({"data": [{"id": name} for name in names]}).encode()


def test_the_server_is_asked_for_its_models(tmp_path: Path, server: Callable[..., Server]) -> None:
    one = server(__v1__models=models(VISION, "llama"))
    found = services.check_annotator(annotated_by(tmp_path, f"{one.url}/v1"))
    assert found.state == "ok" and one.asked == [("/v1/models", f"Bearer {KEY}")]
    found = services.check_annotator(annotated_by(tmp_path, f"{one.url}/v1", vision_model="Qwen2.5-VL-72B"))
    assert found.state == "warn" and f"does not list Qwen2.5-VL-72B; it lists {VISION}, llama" in found.found
    two = server(__v1__models=models("llama"))
    both = {"text_url": f"{two.url}/v1", "text_model": "llama"}
    assert services.check_annotator(annotated_by(tmp_path, f"{one.url}/v1", **both)).state == "ok"
    assert len(two.asked) == 1
    both["text_model"] = "gone"
    assert (
        "does not list gone"
        in services.check_annotator(annotated_by(tmp_path, f"{one.url}/v1", **both)).found
    )


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        ((401, b""), "fail", "GOT_ANNOTATOR_KEY"),
        ((404, b""), "fail", "GOT_ANNOTATOR_URL up to and with the version"),
        ((200, b"<html>"), "warn", "no list of models"),
        ((200, b"[" * 100_000), "warn", "no list of models"),
        ((200, b'{"data": [1]}'), "warn", "no list of models"),
    ],
)
def test_other_answers(
    tmp_path: Path, server: Callable[..., Server], answer: tuple[int, bytes], state: str, told: str
) -> None:
    found = services.check_annotator(annotated_by(tmp_path, f"{server(__v1__models=answer).url}/v1"))
    assert found.state == state and told in f"{found.found} {found.advice}"


def test_the_key_is_never_shown_nor_sent_on(tmp_path: Path, server: Callable[..., Server], down: str) -> None:
    other = server(__models=models(VISION))
    redirecting = server(__v1__models=(302, f"{other.url}/models".encode()))
    found = services.check_annotator(annotated_by(tmp_path, f"{redirecting.url}/v1"))
    assert found.state == "fail" and "HTTP 302" in found.found and other.asked == []
    for url, key in ((down, KEY), (redirecting.url, f"{KEY}\nX-Other: 1"), (redirecting.url, f"{KEY}é")):
        found = services.check_annotator(annotated_by(tmp_path, f"{url}/v1", key=key))
        assert found.state == "fail" and "not-to-be-shown" not in repr(found)


def test_what_is_missing_and_what_needs_no_server(tmp_path: Path) -> None:
    assert "scenes" in services.check_annotator(settings(tmp_path)).found
    own = settings(tmp_path, raw=str(tmp_path / "raw"))
    assert services.check_annotator(own).state == "warn"
    found = services.check_annotator(settings(tmp_path, annotator="openai"))
    assert found.state == "fail" and "GOT_ANNOTATOR_URL" in found.found
    assert services.check_annotator(settings(tmp_path, annotator="imported")).state == "ok"


def test_a_server_that_takes_the_connection_and_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(web.NoAnswerError):
        web.get(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    for url in ("ftp://host/", "http://", "http://[", "http://h:port/", "words"):
        with pytest.raises(web.NoAnswerError):
            web.get(url)


# -- all together -------------------------------------------------------------------------------------


def test_checks_run_side_by_side_and_are_not_waited_for_too_long() -> None:
    together, ended, waited = threading.Barrier(2), threading.Event(), list[bool]()

    def slow() -> Finding:
        together.wait(60)
        return ok("slow", "done")

    def hanging() -> Finding:
        waited.append(ended.wait(600))
        return ok("hanging", "done")

    def broken() -> Finding:
        raise RuntimeError("a fault")

    found = run_checks({"a": slow, "b": slow, "c": hanging, "d": broken}, 4)
    assert not waited, "what hangs is left alone"
    ended.set()
    assert [one.state for one in found] == ["ok", "ok", "fail", "fail"]
    assert "no result within 4 s" in found[2].found and "RuntimeError: a fault" in found[3].found
    assert worst(found) == "fail" and worst([ok("a", ""), warn("b", "", "")]) == "warn" and worst([]) == "ok"


def test_without_valid_settings_no_service_is_looked_at(tmp_path: Path) -> None:
    names = [one.name for one in examine(settings(tmp_path))]
    assert {"python", "processor", "gpu", "disk", "storage", "mlflow", "ray", "annotator"} <= set(names)
    assert len(names) == len(set(names)) and not (tmp_path / "home").exists()
    found = examine(None, "GOT_RAW is wrong")
    assert fail("settings", "GOT_RAW is wrong", found[-1].advice) == found[-1]
    assert "storage" not in {one.name for one in found}


# -- foundation ---------------------------------------------------------------------------------------


def test_what_training_starts_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**given: Any) -> Finding:
        return check_foundation(settings(tmp_path, recipe="tiny", **given))

    assert found(foundation="train") == ok("foundation", "trained anew: GOT_FOUNDATION=train")
    assert found().found == "trained anew: none comes for recipe tiny"
    assert "GoT model models:/got@champion" in found(weights="models:/got@champion").found
    sdxl, qwen = tmp_path / "sdxl", tmp_path / "qwen"
    sdxl.mkdir()
    missing = found(sdxl=sdxl, qwen=qwen)
    assert (missing.state, missing.found) == ("fail", f"no folder is at GOT_QWEN={qwen}")
    qwen.mkdir()
    assert found(sdxl=sdxl, qwen=qwen) == ok("foundation", f"published weights: {sdxl} and {qwen}")
    folder = tmp_path / "weights"
    nothing = found(foundation=str(folder))
    assert nothing.state == "fail" and "is no folder of foundation weights" in nothing.found
    folder.mkdir()
    manifest = {"format": 1, "files": {}, "model": architecture(tiny().model), "recipe": "tiny", "seed": 3}
    (folder / "foundation.json").write_text(json.dumps(manifest))
    assert (
        f"the folder {folder}: foundation weights of recipe tiny, seed 3"
        in found(foundation=str(folder)).found
    )
    monkeypatch.setattr(foundation_folder, "PACKAGED", folder)
    assert "those that come with the package: foundation weights of recipe tiny" in found().found
    (folder / "unet.safetensors").write_bytes(b"")
    damaged = found()
    assert damaged.state == "fail" and "is not listed in foundation.json" in damaged.found


# -- benchmarks ---------------------------------------------------------------------------------------


def test_downloads_of_the_recipes_benchmarks_are_looked_for(tmp_path: Path) -> None:
    assert check_benchmarks(settings(tmp_path)).found == "recipe embedded names no published ones"
    unset = check_benchmarks(settings(tmp_path, recipe="paper"))
    assert unset.state == "fail" and "GOT_BENCHMARKS is not set" in unset.found
    place = tmp_path / "place"
    (place / "geneval").mkdir(parents=True)
    list_of_our_own = place / "geneval" / "evaluation_metadata.jsonl"
    list_of_our_own.write_text("{}\n")
    found = check_benchmarks(settings(tmp_path, recipe="paper", benchmarks=place))
    assert found.state == "fail" and f"{place}/networks/dino-vits16 is missing" in found.found
    assert str(list_of_our_own) not in found.found and "fetch-list" in found.advice
    for name in ("emu_edit_test_set", *(f"networks/{one}" for one in NETWORKS)):
        (place / name).mkdir(parents=True)
    empty = check_benchmarks(settings(tmp_path, recipe="paper", benchmarks=place))
    assert empty.state == "fail" and f"{place}/networks/{NETWORKS[0]} lacks config.json" in empty.found
    for name in NETWORKS:
        for file in ("config.json", "model.safetensors"):
            (place / "networks" / name / file).write_text("{}")
    there = check_benchmarks(settings(tmp_path, recipe="paper", benchmarks=place))
    assert there.state == "ok" and "another protocol: geneval/evaluation_metadata.jsonl" in there.found


NETWORKS = (
    "mask2former-swin-small-coco-instance",
    "clip-vit-large-patch14",
    "clip-vit-base-patch32",
    "dino-vits16",
)
