"""Columns of stored tables: what crosses the wire, and that both clients read the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from got_core.storage import Storage
from got_core.store_faults import StoreUnavailableError
from got_core.table_columns import SMALL, polars_options, read_columns

ROWS = 20_000
LARGE = pl.DataFrame(
    {
        "id": [f"id-{k:08d}" for k in range(ROWS)],
        "text": [np.random.default_rng(k).bytes(100).hex() for k in range(ROWS)],
        "error": [None if k % 7 else "broken" for k in range(ROWS)],
    }
)


@pytest.fixture
def place(faulty_s3: Any) -> Storage:
    store = Storage(f"s3://{faulty_s3.bucket}/got", endpoint_url=faulty_s3.url)
    store.write_table("t/large", LARGE)
    store.write_table("t/small", LARGE.head(10))
    return store


def wanted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("error").is_not_null()).select("id")


def test_a_small_table_is_one_request(place: Storage, faulty_s3: Any) -> None:
    before = faulty_s3.count("GET", "t/small")
    found = read_columns(place, "t/small", ["id"], pl.col("error").is_not_null())
    assert found.equals(wanted(LARGE.head(10)))
    assert faulty_s3.count("GET", "t/small") - before == 1 and not faulty_s3.count("HEAD", "t/small")


def test_of_a_large_table_only_some_columns_are_fetched(
    place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(place.read_bytes("t/large.parquet")) > 2 * SMALL
    monkeypatch.setattr(place, "read_bytes", None)  # the whole table is not asked for
    assert read_columns(place, "t/large", ["id"], pl.col("error").is_not_null()).equals(wanted(LARGE))
    assert read_columns(place, "t/large", ["error", "id"]).equals(LARGE.select("error", "id"))


def test_keys_given_as_options_count_and_not_those_of_the_environment(
    place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of somebody else")
    keys = {"key": "mine", "secret": "hidden", "token": "session"}
    named = Storage(place.url, **place.fs_options, **keys)
    found = polars_options(named._fs, "bucket/a", named.fs_options)
    assert found and [found[f"aws_{one}"] for one in ("access_key_id", "secret_access_key")] == [
        "mine",
        "hidden",
    ]
    assert found["aws_session_token"] == "session" and found["aws_allow_http"] == "true"
    assert read_columns(named, "t/large", ["id"]).height == ROWS
    anonymous = Storage(place.url, **place.fs_options, anon=True)
    assert polars_options(anonymous._fs, "bucket/a", anonymous.fs_options)["aws_skip_signature"] == "true"


def test_credentials_of_a_profile_are_those_that_s3fs_takes(
    place: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        "[line]\naws_access_key_id = of-profile\naws_secret_access_key = hidden\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = Storage(place.url, **place.fs_options, profile="line")
    found = polars_options(store._fs, "bucket/a", store.fs_options)
    assert found and found["aws_access_key_id"] == "of-profile"


@pytest.mark.parametrize(
    ("name", "also"),
    [("t/la[1]*", {}), ("t/large", {"config_kwargs": {"signature_version": "s3v4"}}), ("t/grün 100%", {})],
)
def test_what_cannot_be_translated_is_read_whole(place: Storage, name: str, also: dict[str, Any]) -> None:
    store = Storage(place.url, **place.fs_options, **also)
    store.write_table(name, LARGE)
    assert polars_options(store._fs, f"bucket/{name}", store.fs_options) is None
    assert read_columns(store, name, ["id"]).equals(LARGE.select("id"))


def test_missing_damaged_and_unreachable_tables_are_named(place: Storage, faulty_s3: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"t/none\.parquet does not exist"):
        read_columns(place, "t/none", ["id"])
    for size in (10, 2 * SMALL):
        place.write_bytes("t/bad.parquet", b"x" * size)
        with pytest.raises(ValueError, match=r"t/bad\.parquet is not a readable parquet file"):
            read_columns(place, "t/bad", ["id"])
    with faulty_s3.down(), pytest.raises(StoreUnavailableError):
        read_columns(Storage(place.url, **place.fs_options, skip_instance_cache=True), "t/large", ["id"])


def test_a_local_table_is_scanned(storage: Storage) -> None:
    storage.write_table("t", LARGE)
    assert read_columns(storage, "t", ["id"], pl.col("error").is_not_null()).equals(wanted(LARGE))
    storage.write_bytes("bad.parquet", b"x" * 100)
    with pytest.raises(ValueError, match=r"bad\.parquet is not a readable parquet file"):
        read_columns(storage, "bad", ["id"])
