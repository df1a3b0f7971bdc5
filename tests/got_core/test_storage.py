"""Storage: names, atomic writes, folders, and the content hash."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from got_core.frame_hash import content_hash
from got_core.storage import Storage, local_path

FRAME = pl.DataFrame({"id": ["a", "b", None], "n": [1, 2, 3], "tags": [["x"], [], None]})


@pytest.fixture(params=["file", "memory"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    root = tmp_path / "root" if request.param == "file" else uuid.uuid4().hex
    return Storage(f"{request.param}://{root}", cache_dir=tmp_path / "cache")


def test_tables_bytes_and_json_come_back(any_storage: Storage) -> None:
    any_storage.write_table("captions/images-00000", FRAME)
    any_storage.write_bytes("pictures/1.png", b"\x89PNG")
    any_storage.write_json("geneval.json", {"b": [1, 2], "a": "grün"})
    assert any_storage.read_table("captions/images-00000").equals(FRAME)
    assert any_storage.scan_table("captions/images-00000").select("n").collect()["n"].sum() == 6
    assert any_storage.read_bytes("pictures/1.png") == b"\x89PNG"
    assert any_storage.read_json("geneval.json") == {"a": "grün", "b": [1, 2]}


def test_writing_again_replaces(any_storage: Storage) -> None:
    any_storage.write_table("t", FRAME)
    any_storage.write_table("t", FRAME.head(1))
    assert any_storage.read_table("t").height == 1
    assert any_storage.list() == ["t.parquet"]


def test_exclusive_write_leaves_the_first_table(any_storage: Storage) -> None:
    any_storage.write_table("t", FRAME, exclusive=True)
    with pytest.raises(FileExistsError):
        any_storage.write_table("t", FRAME.head(1), exclusive=True)
    assert any_storage.read_table("t").height == 3
    assert any_storage.list() == ["t.parquet"]


def test_list_takes_a_folder_or_the_beginning_of_file_names(any_storage: Storage) -> None:
    for name in (
        "shards/images-1",
        "shards/edits-0",
        "shards/images-0",
        "shards_old/images-0",
        "boxes/images-0",
    ):
        any_storage.write_table(name, FRAME)
    assert any_storage.list("shards/images-") == ["shards/images-0.parquet", "shards/images-1.parquet"]
    assert any_storage.list("shards") == any_storage.list("shards/")
    assert len(any_storage.list("shards")) == 3
    assert any_storage.list("nothing") == []
    assert len(any_storage.list("")) == 5


def test_exists_and_delete_find_tables_files_and_folders(any_storage: Storage) -> None:
    any_storage.write_table("captions/images-0", FRAME)
    any_storage.write_bytes("models/a/weights", b"1")
    assert any_storage.exists("captions/images-0")
    assert any_storage.exists("captions/images-0.parquet")
    assert any_storage.exists("models/a")
    any_storage.delete("captions/images-0")
    any_storage.delete("models/a")
    any_storage.delete("never/there")
    assert any_storage.list() == []


def test_missing_and_damaged_things_are_named(any_storage: Storage) -> None:
    with pytest.raises(FileNotFoundError, match=r"captions/images-7\.parquet does not exist"):
        any_storage.read_table("captions/images-7")
    any_storage.write_bytes("broken.parquet", b"PAR1 but not really PAR1")
    with pytest.raises(ValueError, match=r"broken\.parquet is not a readable parquet"):
        any_storage.read_table("broken")
    any_storage.write_bytes("broken.json", b"{")
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON"):
        any_storage.read_json("broken.json")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../outside", "a/../../b", "a\\b"])
def test_names_cannot_leave_the_root(any_storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        any_storage.write_bytes(name, b"x")


def test_an_unknown_protocol_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="nowhere://x"):
        Storage("nowhere://x")


def test_upload_replaces_the_folder_and_download_gives_it_back(any_storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "unet").mkdir(parents=True)
    (source / "unet" / "a.safetensors").write_bytes(b"1")
    (source / "old.bin").write_bytes(b"old")
    any_storage.upload(source, "models/m")
    first = any_storage.download("models/m")
    assert (first / "unet" / "a.safetensors").read_bytes() == b"1"
    (source / "old.bin").unlink()
    (source / "unet" / "a.safetensors").write_bytes(b"2")
    any_storage.upload(source, "models/m")
    folder = any_storage.download("models/m")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.safetensors"]
    assert (folder / "unet" / "a.safetensors").read_bytes() == b"2"


def test_download_refuses_a_folder_whose_upload_did_not_finish(tmp_path: Path) -> None:
    remote = Storage(f"memory://{uuid.uuid4().hex}", cache_dir=tmp_path / "cache")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_bytes(b"1")
    remote.upload(tmp_path / "model", "m")
    remote.write_json("m.files.json", {"complete": False, "files": {}})  # as a killed upload leaves it
    with pytest.raises(FileNotFoundError, match="did not finish"):
        remote.download("m")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        remote.download("absent")


def test_download_takes_a_remote_folder_put_there_by_others(tmp_path: Path) -> None:
    remote = Storage(f"memory://{uuid.uuid4().hex}", cache_dir=tmp_path / "cache")
    remote.write_bytes("sdxl/unet/config.json", b"{}")
    assert (remote.download("sdxl") / "unet" / "config.json").read_bytes() == b"{}"


def test_download_leaves_out_what_is_not_needed(tmp_path: Path) -> None:
    remote = Storage(f"memory://{uuid.uuid4().hex}", cache_dir=tmp_path / "cache")
    for name in ("config.json", "model.safetensors"):
        remote.write_bytes(f"sdxl/unet/{name}", b"{}")
    parts = remote.download("sdxl", without=(".safetensors",)) / "unet"
    assert [one.name for one in parts.iterdir()] == ["config.json"]
    assert len([*(remote.download("sdxl") / "unet").iterdir()]) == 2
    assert [one.name for one in parts.iterdir()] == ["config.json"]


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Storage("here")
    monkeypatch.chdir("/")
    relative.write_bytes("a", b"1")
    assert (tmp_path / "here" / "a").read_bytes() == b"1"
    assert relative.url_of("a") == f"file://{tmp_path}/here/a"
    assert local_path("s3://bucket/x") is None


def test_a_killed_writer_leaves_the_old_table_or_the_new_one(tmp_path: Path) -> None:
    code = (
        "import sys, polars as pl; from got_core.storage import Storage\n"
        "s = Storage(sys.argv[1]); n = 0\n"
        "while True:\n"
        "    s.write_table('t', pl.DataFrame({'n': [n] * 50000})); n += 1\n"
        "    print(n, flush=True)\n"
    )
    storage = Storage(str(tmp_path))
    for delay in (0.0, 0.003, 0.006):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.communicate()
        frame = storage.read_table("t")
        assert frame.height == 50000
        assert frame["n"].n_unique() == 1
        assert storage.list() == ["t.parquet"]


def test_a_failing_write_leaves_no_litter(storage: Storage) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        storage.write_table("t", pl.DataFrame({"o": [object()]}))
    assert os.listdir(storage.url.removeprefix("file://")) == []


# content hash


def test_content_hash_ignores_chunks_and_encoding(storage: Storage) -> None:
    chunked = pl.concat([FRAME.head(1), FRAME.slice(1, 1), FRAME.tail(1)], rechunk=False)
    storage.write_table("t", chunked)
    assert content_hash(chunked) == content_hash(FRAME) == content_hash(storage.read_table("t"))
    assert content_hash(FRAME.slice(1)) == content_hash(FRAME.tail(2).clone())


def test_content_hash_is_the_same_in_every_version() -> None:
    # A changed hash would make every stored asset stale: change it knowingly.
    assert content_hash(FRAME) == "ea2da69bd2f326c96571e2f6f64eeb6337546a13096c57d0dff27588cad17a33"


@pytest.mark.parametrize(
    "other",
    [
        FRAME.reverse(),
        FRAME.rename({"n": "m"}),
        FRAME.with_columns(pl.col("n").cast(pl.Int32)),
        FRAME.select("n", "id", "tags"),
        FRAME.with_columns(n=pl.Series([1, 2, None])),
        FRAME.with_columns(id=pl.Series(["ab", "", None])),
        FRAME.with_columns(id=pl.Series(["a", "b", ""])),
        FRAME.with_columns(tags=pl.Series([["x"], None, []], dtype=pl.List(pl.String))),
        FRAME.with_columns(tags=pl.Series([["x"], [None], None], dtype=pl.List(pl.String))),
        FRAME.head(2),
    ],
)
def test_content_hash_sees_every_difference(other: pl.DataFrame) -> None:
    assert content_hash(other) != content_hash(FRAME)


BOXES = pl.List(pl.Struct({"phrase": pl.String, "x1": pl.Int32}))
box = st.none() | st.fixed_dictionaries(
    {"phrase": st.none() | st.text(max_size=3), "x1": st.none() | st.integers(0, 999)}
)
rows = st.lists(
    st.tuples(st.none() | st.lists(box, max_size=3), st.none() | st.floats(), st.none() | st.booleans())
)


def _frame(values: list[tuple]) -> pl.DataFrame:
    columns = list(zip(*values, strict=True)) or [(), (), ()]
    types: dict[str, Any] = {"boxes": BOXES, "score": pl.Float64, "ok": pl.Boolean}
    return pl.DataFrame([pl.Series(n, c, dtype=t) for (n, t), c in zip(types.items(), columns, strict=True)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows, rows)
def test_content_hash_agrees_with_equality_on_nested_frames(left: list[tuple], right: list[tuple]) -> None:
    one, two = _frame(left), _frame(right)
    assert content_hash(pl.concat([one.head(1), one.slice(1)], rechunk=False)) == content_hash(one)
    if content_hash(one) == content_hash(two):
        assert one.equals(two)


def test_content_hash_refuses_python_objects() -> None:
    with pytest.raises(TypeError, match="column 'o'"):
        content_hash(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


def test_a_new_folder_takes_its_place_whole_or_not_at_all(any_storage: Storage) -> None:
    for text in ("old", "new"):
        with any_storage.new_folder("models/one") as folder:
            (folder / f"{text}.txt").write_text(text)
            assert text == "new" or not any_storage.list()
        assert [path.name for path in any_storage.download("models/one").iterdir()] == [f"{text}.txt"]
    with pytest.raises(RuntimeError), any_storage.new_folder("models/one") as folder:
        (folder / "broken.txt").write_text("broken")
        raise RuntimeError
    assert any_storage.list("models/one/") == ["models/one/new.txt"]
    assert not folder.exists()


def test_of_those_that_ask_at_once_one_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(f"memory://{uuid.uuid4().hex}", cache_dir=tmp_path / "cache")
    source = tmp_path / "model"
    source.mkdir()
    (source / "weights").write_bytes(b"weights")
    storage.upload(source, "model")
    fetched, fetch = list[str](), Storage._get_folder

    def slow(self: Storage, name: str, files: dict[str, str | None], folder: Path) -> None:
        fetched.append(name)
        time.sleep(0.3)
        fetch(self, name, files, folder)

    monkeypatch.setattr(Storage, "_get_folder", slow)
    with ThreadPoolExecutor(4) as pool:
        folders = [*pool.map(lambda _: storage.download("model"), range(4))]
    assert len(set(folders)) == 1 and (folders[0] / "weights").read_bytes() == b"weights"
    assert fetched == ["model"]


def _download(url: str, cache: Path, copies: Path, **options: Any) -> None:
    """What one worker of a machine does; each copy that it makes leaves a line."""
    storage = Storage(url, cache_dir=cache, **options)
    fetch = storage._get_folder

    def noted(*arguments: Any) -> None:
        with copies.open("a") as lines:
            lines.write("copied\n")
        time.sleep(0.3)  # others come meanwhile
        fetch(*arguments)

    storage._get_folder = noted  # type: ignore[method-assign]
    assert (storage.download("models/one") / "a.txt").read_text() == "a"


KILLED = """
import os, signal, sys
from pathlib import Path
from got_core.storage import Storage
storage = Storage(sys.argv[1], cache_dir=Path(sys.argv[2]), endpoint_url=sys.argv[3])
whole, count = storage._fs.get_file, [0]
def dies(source, target, *more, **named):
    count[0] += 1
    if count[0] == 2:
        Path(target).write_bytes(b"half of it")
        print("in the middle", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(source, target, *more, **named)
storage._fs.get_file = dies
storage.download("model")
"""


def test_of_two_that_download_one_is_killed_and_the_other_has_it_whole(
    tmp_path: Path, s3_server: Any
) -> None:
    url, options = f"s3://{s3_server.bucket}/store", {"endpoint_url": s3_server.url}
    storage = Storage(url, cache_dir=tmp_path / "cache", **options)
    source = tmp_path / "model"
    source.mkdir()
    for name in "abc":
        (source / name).write_bytes(name.encode() * 1000)
    storage.upload(source, "model")
    root = str(Path(__file__).parents[2])
    dying = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, str(tmp_path / "cache"), s3_server.url],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not [*(tmp_path / "cache").rglob(".lock")] and time.monotonic() < until:
        time.sleep(0.01)
    folder = storage.download("model")  # waits, and fetches when the lock is free
    assert dying.communicate(timeout=60)[0] == "in the middle\n" and dying.returncode == -9
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: name.encode() * 1000 for name in "abc"
    }
    assert not [*(tmp_path / "cache").rglob("*.partial")], "nothing of the dead one stays"


@pytest.mark.parametrize("once", [True, False])
def test_a_download_that_came_otherwise_is_fetched_again_and_then_refused(
    tmp_path: Path, s3_server: Any, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    options = {"endpoint_url": s3_server.url}
    storage = Storage(f"s3://{s3_server.bucket}/store", cache_dir=tmp_path / "cache", **options)
    source = tmp_path / "model"
    source.mkdir()
    (source / "weights").write_bytes(b"0123456789")
    storage.upload(source, "model")
    storage._fs.pipe_file(storage._path("model/weights"), b"01234")  # as a store that lost some of it
    real = storage._fs.get_file

    def healed(path: str, target: str) -> None:
        real(path, target)
        if once:
            storage._fs.pipe_file(path, b"0123456789")

    monkeypatch.setattr(storage._fs, "get_file", healed)
    if once:
        assert (storage.download("model") / "weights").read_bytes() == b"0123456789"
        return
    with pytest.raises(OSError, match=r"store/model/weights is not as it was uploaded: its SHA-256"):
        storage.download("model")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name in ("weights", "model")]


def test_of_several_processes_one_downloads(tmp_path: Path, s3_server: Any) -> None:
    url = f"s3://{s3_server.bucket}/store"
    options = {"endpoint_url": s3_server.url}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    Storage(url, **options).upload(tmp_path / "folder", "models/one")
    context = multiprocessing.get_context("spawn")
    arguments = (url, tmp_path / "cache", tmp_path / "copies")
    workers = [context.Process(target=_download, args=arguments, kwargs=options) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "copies").read_text() == "copied\n"
