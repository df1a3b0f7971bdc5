"""Stores that fail: S3 behind a proxy with faults, full disks, mounts that are gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.ingest import ingest_images
from got_core.corpus.reader import Folder
from got_core.corpus.shards import assign_image_shards
from got_core.filesystems import StoreUnavailableError, open_filesystem
from got_core.storage import Storage
from tests.faults import answers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Answer, Clock, Cut, Fault
from tests.got_core.corpus.pictures import png

ROOT = Path(__file__).resolve().parents[2]
IN_NAMESPACE = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=256k t "$0" && exec "$@"']


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients try everything once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def raw(faulty_s3: FaultProxy) -> str:
    """URL of six pictures."""
    fs, _ = open_filesystem(f"s3://{faulty_s3.bucket}", endpoint_url=faulty_s3.url)
    for number in range(6):
        fs.pipe_file(f"{faulty_s3.bucket}/raw/{number}.png", png(number))
    return f"s3://{faulty_s3.bucket}/raw"


@pytest.mark.parametrize(
    ("fault", "said", "retryable"),
    [
        (answers.ACCESS_DENIED, "let these credentials read and write there", False),
        (answers.EXPIRED_TOKEN, "credentials", False),
        (answers.EXPIRED_CREDENTIALS, "credentials", False),
        (Clock(3600), r"clock is 60 min behind the store's.*set this machine's clock", False),
        (Clock(-7200), r"clock is 120 min ahead of the store's.*set this machine's clock", False),
        (answers.SLOW_DOWN, "it is busy: wait a while", True),
        (answers.INTERNAL_ERROR, "see that it is up", True),
        (Answer(status=503, body=b"<html>busy</html>"), "it is busy: wait a while", True),
        (Cut(), "see that it is up", True),
    ],
    ids=str,
)
def test_a_refusing_store_is_no_fault_of_a_file(
    once: None, faulty_s3: FaultProxy, raw: str, fault: Fault, said: str, retryable: bool
) -> None:
    options = {"endpoint_url": faulty_s3.url}
    storage, folder = Storage(f"{raw}-store", **options), Folder(raw, IngestConfig(), options)
    faulty_s3.add(fault)
    for use in (
        lambda: folder.read_bytes("0.png"),  # GET
        lambda: storage.exists("x"),  # HEAD
        lambda: storage.write_bytes("x", b"1"),  # PUT
    ):
        with pytest.raises(StoreUnavailableError, match=said) as caught:
            use()
        assert "GOT_S3_ENDPOINT" in str(caught.value) and "run it again" in str(caught.value)
        assert caught.value.retryable is retryable


@pytest.mark.parametrize("fault", [answers.SLOW_DOWN, answers.INTERNAL_ERROR, Cut(), Cut(50)], ids=str)
def test_what_passes_soon_heals_by_itself(faulty_s3: FaultProxy, raw: str, fault: Fault) -> None:
    rule = faulty_s3.add(fault, method="GET", path=r"/0\.png", times=2)
    assert Folder(raw, IngestConfig(), {"endpoint_url": faulty_s3.url}).read_bytes("0.png") == png(0)
    assert rule.used == 2


@pytest.mark.parametrize(
    "fault", [answers.ACCESS_DENIED, answers.EXPIRED_TOKEN, Clock(3600), Cut(20)], ids=str
)
def test_ingestion_stops_and_then_gives_the_same_table(
    once: None, storage: Storage, faulty_s3: FaultProxy, raw: str, fault: Fault
) -> None:
    options, config = {"endpoint_url": faulty_s3.url}, IngestConfig(workers=2)
    [shard] = assign_image_shards(storage, raw, config, options)
    undisturbed = ingest_images(storage, raw, shard, config, fs_options=options)
    assert undisturbed["error"].null_count() == 6
    rule = faulty_s3.add(fault, path=r"/3\.png")
    with pytest.raises(StoreUnavailableError, match="could not be used"):
        ingest_images(storage, raw, shard, config, fs_options=options)
    assert rule.used
    faulty_s3.clear()
    assert ingest_images(storage, raw, shard, config, fs_options=options).equals(undisturbed)


def test_an_object_that_is_gone_is_a_verdict(storage: Storage, faulty_s3: FaultProxy, raw: str) -> None:
    options, config = {"endpoint_url": faulty_s3.url}, IngestConfig()
    [shard] = assign_image_shards(storage, raw, config, options)
    open_filesystem(raw, **options)[0].rm_file(f"{faulty_s3.bucket}/raw/3.png")
    frame = ingest_images(storage, raw, shard, config, fs_options=options)
    assert frame.filter(pl.col("error").is_not_null()).select("path", "reason").rows() == [
        ("3.png", "vanished")
    ]


def test_a_folder_that_is_not_mounted_is_no_verdict_on_its_files(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    root.mkdir()
    (root / "0.png").write_bytes(png(0))
    (root / "1.png").write_bytes(png(1))
    folder = Folder(root, IngestConfig())
    (root / "0.png").unlink()
    with pytest.raises(ImageError, match="vanished"):
        folder.read_bytes("0.png")
    for remove in (lambda: (root / "1.png").unlink(), lambda: shutil.rmtree(root)):
        remove()
        with pytest.raises(StoreUnavailableError, match=r"mounted is gone, or empty: is it mounted\?"):
            folder.read_bytes("1.png")


FULL = """
import sys
from pathlib import Path
import polars as pl
from got_core.corpus.tar_storage import TarStorage
from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage

storage = Storage("file://" + sys.argv[1])
frame = pl.DataFrame({"n": range(1000)})
storage.write_table("fits", frame)
data = bytes(512 * 1024)

def fill_tar():
    with TarStorage(storage).new("shard/00000") as tar:
        tar.write(data)
        tar.publish()

def fill_file():
    storage.write_bytes("big", data)

for use, name in ((fill_file, "big"), (fill_tar, "00000")):
    try:
        use()
    except StoreUnavailableError as error:
        said = str(error)
        assert name in said and "No space left on device; free some space there, then run it" in said, said
        assert not error.retryable
    else:
        raise AssertionError("it fitted")
assert storage.list() == ["fits.parquet"] and storage.read_table("fits").equals(frame)
left = [path for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
assert len(left) == 1, left
print("clean")
"""


def _own_mounts() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _own_mounts(), reason="needs unshare -rm, for a small disk of the test's own")
def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path) -> None:
    command = [*IN_NAMESPACE, str(tmp_path), sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "clean\n", done.stderr
