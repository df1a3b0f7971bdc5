"""Pictures that are missing, broken, slow or away for a moment, on real files and a real object store."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.server import ThreadedMotoServer
from PIL import Image

from got_core.corpus.reader import ImageReader
from got_core.train.data import pictures
from got_core.train.data.pictures import HangingStoreError, PatientReader, PictureCare, PictureError

HOLD = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
time.sleep(600)
"""
"""Who opens a file under a lease waits until it is given back, or the kernel takes it (45 s)."""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The file under another process's write lease: opening it takes until the process ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (48, 48), (200, 30, 30)).save(tmp_path / name)
    return tmp_path


def opener(folder: Path, **care: Any) -> PatientReader[str, Image.Image]:
    return PatientReader(ImageReader(folder).open, PictureCare(**care))


def test_what_is_wrong_with_a_file_is_known_at_once(folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:100])
    tries, reader = [], ImageReader(folder)

    def noted(path: str) -> Image.Image:
        tries.append(path)
        return reader.open(path)

    read = PatientReader(noted, PictureCare(retries=5, timeout=60))
    assert read("a.png").size == (48, 48)
    for path, reason in (("gone.png", "vanished"), ("broken.png", "truncated"), ("../x.png", "outside_root")):
        with pytest.raises(PictureError) as error:
            read(path)
        assert (error.value.path, error.value.reason) == (path, reason)
        assert str(error.value).count(path) == 1
    assert tries == ["a.png", "gone.png", "broken.png", "../x.png"], "no try was repeated"


def test_a_slow_file_is_given_up_and_read_once_it_is_quick(folder: Path) -> None:
    read = opener(folder, timeout=0.5)
    with held(folder / "a.png"):
        with pytest.raises(PictureError, match=r"a\.png: slow \(not there within 0\.5 s\)"):
            read("a.png")
        read._care = PictureCare(timeout=60)
        assert read("b.png").size == (48, 48), "others are read meanwhile"
    assert read("a.png").size == (48, 48)


def test_reads_that_hang_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_HUNG", 2)
    read = opener(folder, timeout=0.1)
    with held(folder / "a.png"):
        for _ in range(2):
            with pytest.raises(PictureError, match="slow"):
                read("a.png")
        with pytest.raises(HangingStoreError, match=r"2 pictures hang, the last before b\.png"):
            read("b.png")
        threads = [thread for thread in threading.enumerate() if thread.name == "picture"]
        assert len(threads) == 2
    for thread in threads:
        thread.join(60)
    read._care = PictureCare(timeout=60)
    assert read("b.png").size == (48, 48)


def test_a_store_that_comes_back_is_waited_for(s3_server: Any, folder: Path) -> None:
    files = s3fs.S3FileSystem(endpoint_url=s3_server.url, skip_instance_cache=True)
    files.put_file(str(folder / "a.png"), f"{s3_server.bucket}/a.png")
    # One try of the client itself, so that all waiting is the opener's.
    options = {"endpoint_url": s3_server.url, "config_kwargs": {"retries": {"max_attempts": 1}}}
    reader = ImageReader(f"s3://{s3_server.bucket}", fs_options=options)
    assert PatientReader(reader.open, PictureCare())("a.png").size == (48, 48)
    s3_server.stop()
    away = PatientReader(reader.open, PictureCare(retries=0, timeout=60))
    with pytest.raises(PictureError, match=r"a\.png: unavailable \(StoreUnavailableError"):
        away("a.png")
    again = ThreadedMotoServer(
        ip_address="127.0.0.1", port=int(s3_server.url.rpartition(":")[2]), verbose=False
    )
    back = threading.Timer(1.0, again.start)
    back.start()
    try:
        assert PatientReader(reader.open, PictureCare(retries=8, timeout=60))("a.png").size == (48, 48)
    finally:
        back.join()
        again.stop()


def test_a_fault_that_stays_ends_within_the_time_limit(folder: Path) -> None:
    def failing(path: str) -> Image.Image:
        tries.append(path)
        raise OSError(5, "Input/output error")

    tries: list[str] = []
    read = PatientReader(failing, PictureCare(retries=100, timeout=2.0))
    with pytest.raises(PictureError, match="unavailable"):
        read("a.png")
    assert 1 <= len(tries) <= 3, "at 0, 0.5 and 1.5 s, or later"


def test_without_care_errors_are_the_readers_own(folder: Path) -> None:
    with pytest.raises(ValueError, match="vanished"):
        PatientReader(ImageReader(folder).open)("gone.png")


def test_a_mistake_of_the_program_is_no_fault_of_a_picture(folder: Path) -> None:
    def wrong(path: str) -> Image.Image:
        raise KeyError(path)

    with pytest.raises(KeyError):
        PatientReader(wrong, PictureCare())("a.png")
