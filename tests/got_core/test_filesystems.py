"""Literal names on every file system, and an S3 server that fails, against a real one."""

from __future__ import annotations

import pickle
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
import ray.cloudpickle
import s3fs
from moto.server import ThreadedMotoServer

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.inputs import inputs_of
from got_core.corpus.listing import list_input
from got_core.corpus.reader import Folder, remote_stamp
from got_core.filesystems import StoreUnavailableError, open_filesystem
from got_core.storage import Storage
from got_core.train.ray.jobs import _ray_storage

ODD = ("a[1]", "b?c", "d*", "e{x,y}", "f#g", "h%20i", "j+k l", "ünï", "k=1")
SIBLINGS = ("a1", "bxc", "dd", "ex", "f", "h i", "j k l", "uni", "k")
"""What each name of ODD would match if it were a pattern, or were decoded or cut."""


@pytest.fixture
def server(s3_server: ThreadedMotoServer) -> ThreadedMotoServer:
    """An S3 server that a test may stop."""
    return s3_server


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """URL of an empty folder of each kind, and options."""
    if request.param == "disk":
        return str(tmp_path), {}
    if request.param == "memory":
        return f"memory://{uuid4().hex}", {}
    server = request.getfixturevalue("server")
    return f"s3://{server.bucket}", {"endpoint_url": server.url}


@pytest.mark.parametrize(("odd", "sibling"), zip(ODD, SIBLINGS, strict=True))
def test_names_are_literal(place: tuple[str, dict[str, str]], tmp_path: Path, odd: str, sibling: str) -> None:
    url, options = place
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "w.bin").write_bytes(odd.encode())
    named, other = (
        Storage(f"{url}/{name}", cache_dir=tmp_path / "cache", **options) for name in (odd, sibling)
    )
    for one, name in ((other, sibling), (named, odd)):
        one.write_table(f"{odd}/table", pl.DataFrame({"name": [name]}))
        one.write_table(f"{sibling}/table", pl.DataFrame({"name": [f"sibling in {name}"]}))
        one.upload(weights, f"{odd}-model")
        one.upload(weights, f"{sibling}-model")
    assert named.read_table(f"{odd}/table").to_dict(as_series=False) == {"name": [odd]}
    assert named.scan_table(f"{odd}/table").collect().to_dict(as_series=False) == {"name": [odd]}
    assert (named.download(f"{odd}-model") / "w.bin").read_bytes() == odd.encode()
    before = other.list()
    named.delete(f"{odd}/table")
    named.delete(f"{odd}-model")
    named.delete(odd)
    left = [name for name in named.list() if not name.endswith(".files.json")]
    assert left == sorted([f"{sibling}-model/w.bin", f"{sibling}/table.parquet"])
    assert not named.exists(odd) and not named.exists(f"{odd}-model")
    assert other.list() == before
    assert other.read_table(f"{odd}/table")["name"].to_list() == [sibling]


@pytest.mark.parametrize(("odd", "sibling"), zip(ODD, SIBLINGS, strict=True))
def test_a_pattern_of_tars_lies_in_a_folder_that_is_literal(
    place: tuple[str, dict[str, str]], odd: str, sibling: str
) -> None:
    url, options = place
    for name in (odd, sibling):
        Storage(f"{url}/{name}", **options).write_bytes("part-1.tar", b"\0" * 1024)
    [one] = inputs_of(f"{url}/{odd}/part-*.tar", options)
    assert one.base.endswith(odd)
    assert list_input(one, IngestConfig()).found["path"].to_list() == ["part-1.tar"]


def test_a_local_name_that_looks_like_a_chain_of_file_systems(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "a::b"))
    storage.write_table("t", pl.DataFrame({"n": [1]}))
    assert storage.list() == ["t.parquet"] and storage.read_table("t")["n"].to_list() == [1]
    assert (tmp_path / "a::b" / "t.parquet").is_file()


def test_a_server_that_is_gone_is_no_fault_of_a_file(
    server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own, with seconds between them
    bucket, options = f"s3://{server.bucket}", {"endpoint_url": server.url}
    storage = Storage(f"{bucket}/store", **options)
    storage.write_table("shards/one", pl.DataFrame({"n": [1]}))
    folder = Folder(bucket, IngestConfig(), options)
    opened = open_filesystem(bucket, **options)[0].open(f"{bucket}/store/shards/one.parquet", "rb")
    server.stop()
    for use in (
        lambda: storage.read_table("shards/one"),
        lambda: storage.write_table("shards/two", pl.DataFrame({"n": [2]})),
        lambda: storage.exists("shards/one"),
        lambda: storage.list("shards"),
        lambda: storage.delete("shards/one"),
        lambda: folder.read_bytes("store/shards/one.parquet"),
        opened.read,
    ):
        with pytest.raises(StoreUnavailableError, match=r"GOT_S3_ENDPOINT.*run it again") as caught:
            use()
        assert server.url in str(caught.value)


def test_a_missing_bucket_and_refused_credentials_are_told(
    server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"endpoint_url": server.url}
    with pytest.raises(StoreUnavailableError, match="NoSuchBucket"):
        Storage("s3://nowhere-at-all", **options).list()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    fs, _ = open_filesystem("s3://got", **options, skip_instance_cache=True)
    with pytest.raises(StoreUnavailableError, match="AWS_ACCESS_KEY_ID"):
        fs.cat_file("got/x")


def test_a_file_system_travels_to_other_processes(server: ThreadedMotoServer) -> None:
    fs, _ = open_filesystem("s3://got", endpoint_url=server.url)
    there = pickle.loads(ray.cloudpickle.dumps(fs))
    assert type(there) is type(fs) and there.endpoint_url == server.url


def test_what_is_about_the_object_stays_so(server: ThreadedMotoServer) -> None:
    storage = Storage(f"s3://{server.bucket}", endpoint_url=server.url)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("not-there")
    storage.write_table("t", pl.DataFrame({"n": [1]}))
    with pytest.raises(FileExistsError):
        storage.write_table("t", pl.DataFrame({"n": [2]}), exclusive=True)


def test_an_object_replaced_after_it_was_listed_is_seen_as_changed(server: ThreadedMotoServer) -> None:
    bucket, options = f"s3://{server.bucket}", {"endpoint_url": server.url}
    outside = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    outside.pipe_file(f"{server.bucket}/raw/x.jpg", b"old")
    fs, root = open_filesystem(f"{bucket}/raw", **options)
    [listed] = fs.find(root, detail=True).values()
    stamp = remote_stamp(listed)
    outside.pipe_file(f"{server.bucket}/raw/x.jpg", b"another, longer")
    with pytest.raises(ImageError) as caught:
        Folder(f"{bucket}/raw", IngestConfig(), options).read_bytes("x.jpg", stamp)
    assert caught.value.reason == "changed"


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_replaced_while_it_is_read_is_no_damaged_file(
    server: ThreadedMotoServer, replaced: bool
) -> None:
    bucket, options = server.bucket, {"endpoint_url": server.url}
    outside = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    outside.pipe_file(f"{bucket}/x.tar", bytes(1 << 20))
    folder = Folder(f"s3://{bucket}", IngestConfig(), options)
    with folder.open_file("x.tar", remote_stamp(outside.info(f"{bucket}/x.tar")), scattered=True) as file:
        if replaced:
            outside.pipe_file(f"{bucket}/x.tar", b"another")
        else:
            outside.rm_file(f"{bucket}/x.tar")
        with pytest.raises(StoreUnavailableError, match=r"x.tar was replaced or deleted.*run it again"):
            file.read(100)


def test_a_redirect_that_leads_nowhere_is_the_store_s(server: ThreadedMotoServer) -> None:
    class Moved(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """No log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Moved) as moved:
        threading.Thread(target=moved.serve_forever, daemon=True).start()
        storage = Storage("s3://got/store", endpoint_url=f"http://127.0.0.1:{moved.server_port}")
        for use in (storage.list, lambda: storage.read_bytes("x"), lambda: storage.exists("x")):
            with pytest.raises(StoreUnavailableError, match="GOT_S3_ENDPOINT"):
                use()
        moved.shutdown()


def test_removal_by_others_is_literal_on_s3(server: ThreadedMotoServer) -> None:
    """Ray deletes old checkpoints by `rm`, through pyarrow."""
    url, options = f"s3://{server.bucket}", {"endpoint_url": server.url}
    fs, root = open_filesystem(url, **options)
    for name in ("a[1]", "a1", "b*", "bb"):
        fs.pipe_file(f"{root}/{name}/ray/old/weights", b"1")
    for name in ("a[1]", "b*"):
        path, checkpoints = _ray_storage(Storage(f"{url}/{name}", **options))
        checkpoints.delete_dir(f"{path}/old")
    assert fs.find(root) == [f"{root}/{name}/ray/old/weights" for name in ("a1", "bb")]


def test_what_looks_like_a_version_is_part_of_a_name_on_s3(server: ThreadedMotoServer) -> None:
    storage = Storage(f"s3://{server.bucket}", endpoint_url=server.url)
    storage.write_bytes("x", b"plain")
    storage.write_bytes("x?versionId=1", b"odd")
    assert storage.read_bytes("x") == b"plain" and storage.list() == ["x", "x?versionId=1"]
    storage.delete("x?versionId=1")
    assert storage.list() == ["x"]


def test_an_error_is_not_its_own_cause(server: ThreadedMotoServer) -> None:
    """Whoever follows causes, as Dagster does, would never come to an end."""
    fs, root = open_filesystem(f"s3://{server.bucket}", endpoint_url=server.url)
    with pytest.raises(FileNotFoundError) as found:
        fs.cat_file(f"{root}/nothing")
    link: BaseException | None = found.value
    seen: list[BaseException] = []
    while link is not None and len(seen) < 20:
        seen.append(link)
        link = link.__cause__
    assert link is None


def test_a_machine_out_of_file_handles_gives_no_verdict_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"1")
    folder, limits = Folder(tmp_path, IngestConfig()), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(StoreUnavailableError, match=r"x.jpg cannot be read: Too many open files; "):
            folder.read_bytes("x.jpg")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert folder.read_bytes("x.jpg") == b"1"
