"""Some columns or rows of a stored table, without fetching the rest of it from S3.

A table of up to a MiB comes whole, with one request. Of a larger one polars' own reader of object stores
fetches what is needed, with the endpoint, region and credentials that s3fs found. Where that client cannot do
what s3fs does, or fails, s3fs fetches the table whole, and its errors count.

Belongs here: that choice, and translating between the two clients. Not here: whole tables (`storage`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import polars as pl
from fsspec.asyn import sync

from got_core.filesystems import is_s3, open_filesystem
from got_core.storage import TABLE_SUFFIX, Storage

SMALL = 1 << 20
"""Bytes of a table that is fetched whole, at most: what a store sends in the time of one more request."""
_PLAIN_NAME = re.compile(r"[\w.=-]+(?:/[\w.=-]+)*", re.ASCII)
"""Keys that both clients are certain to read as the same object."""
_SAME = {"endpoint_url", "key", "secret", "token", "profile", "anon", "client_kwargs", "use_ssl"}
_NO_MATTER = {
    *("skip_instance_cache", "use_listings_cache", "default_block_size", "default_cache_type"),
    *("default_fill_cache", "cache_regions", "asynchronous", "max_concurrency"),
}
_CLIENT = {"endpoint_url", "region_name", "aws_access_key_id", "aws_secret_access_key"}


def read_columns(
    storage: Storage, name: str, columns: Sequence[str], where: pl.Expr | None = None
) -> pl.DataFrame:
    """Columns of a table, of the rows for which `where` holds, which may look at other columns.

    Raises as `Storage.read_table`, and polars' ColumnNotFoundError.
    """
    url = storage.url_of(name + TABLE_SUFFIX)
    if not is_s3(storage.url):
        return _parsed(storage.scan_table(name), url, columns, where)
    fs, path = open_filesystem(url, **storage.fs_options)
    try:
        data, size = fs.read_tail(path, SMALL)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} does not exist") from error
    if len(data) == size:
        return _parsed(pl.scan_parquet(io.BytesIO(data)), url, columns, where)
    options = polars_options(fs, path, storage.fs_options)
    if options is not None:
        try:
            scan = pl.scan_parquet(
                f"s3://{path}", glob=False, hive_partitioning=False, storage_options=options,
                credential_provider=None,
            )  # fmt: skip
            return _chosen(scan, columns, where)
        except (OSError, pl.exceptions.PolarsError):
            pass  # whatever it was, the other client names it better, or does not meet it
    whole = io.BytesIO(storage.read_bytes(name + TABLE_SUFFIX))
    return _parsed(pl.scan_parquet(whole), url, columns, where)


def _parsed(scan: pl.LazyFrame, url: str, columns: Sequence[str], where: pl.Expr | None) -> pl.DataFrame:
    try:
        return _chosen(scan, columns, where)
    except pl.exceptions.ComputeError as error:
        raise ValueError(
            f"{url} is not a readable parquet file: {error}; delete it to have it remade"
        ) from error


def _chosen(scan: pl.LazyFrame, columns: Sequence[str], where: pl.Expr | None) -> pl.DataFrame:
    return (scan if where is None else scan.filter(where)).select(columns).collect()


def polars_options(fs: Any, path: str, options: dict[str, Any]) -> dict[str, str] | None:
    """`storage_options` with which polars reads what an s3fs file system reads; None where it could not.

    Endpoint, region and credentials are those that s3fs found, by whatever way, so that they cannot differ;
    asked for each time, since credentials end. What has no counterpart (another signature, a proxy, keys of
    encryption) or a name that could be read in two ways is left to s3fs.
    """
    client = options.get("client_kwargs") or {}
    if options.keys() - _SAME - _NO_MATTER or client.keys() - _CLIENT or not _PLAIN_NAME.fullmatch(path):
        return None
    s3 = fs.s3
    endpoint = s3.meta.endpoint_url
    found = {"aws_region": s3.meta.region_name or "us-east-1"}
    if (s3.meta.config.s3 or {}).get("addressing_style") not in (None, "auto", "path"):
        return None
    if not endpoint.endswith(".amazonaws.com"):
        found |= {"aws_endpoint_url": endpoint}
    if endpoint.startswith("http://"):
        found |= {"aws_allow_http": "true"}
    if fs.anon:
        return found | {"aws_skip_signature": "true"}
    signing = sync(fs.loop, _credentials, fs, options, client)
    return None if signing is None else found | signing


async def _credentials(fs: Any, options: dict[str, Any], client: dict[str, Any]) -> dict[str, str] | None:
    key = options.get("key") or client.get("aws_access_key_id")
    secret = options.get("secret") or client.get("aws_secret_access_key")
    token = options.get("token")
    if not key:
        held = await fs.session.get_credentials()
        if held is None:
            return None
        now = await held.get_frozen_credentials()
        key, secret, token = now.access_key, now.secret_key, now.token
    named = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}
    return {name: value for name, value in named.items() if value}
