"""Inventories and events as AWS publishes them, of what a bucket holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

WRITTEN = datetime(2026, 1, 1, 2, 3, 4, tzinfo=UTC)
FOLDER = "inv/{bucket}/daily"
COLUMNS = {
    "Bucket": pa.string(),
    "Key": pa.string(),
    "VersionId": pa.string(),
    "IsLatest": pa.bool_(),
    "IsDeleteMarker": pa.bool_(),
    "Size": pa.int64(),
    "LastModifiedDate": pa.timestamp("ms", "UTC"),
    "ETag": pa.string(),
    "StorageClass": pa.string(),
}
CURRENT = [name for name in COLUMNS if name not in ("VersionId", "IsLatest", "IsDeleteMarker")]
_SNAKE = {
    **{"Bucket": "bucket", "Key": "key", "VersionId": "version_id", "IsLatest": "is_latest"},
    **{"IsDeleteMarker": "is_delete_marker", "Size": "size", "LastModifiedDate": "last_modified_date"},
    **{"ETag": "e_tag", "StorageClass": "storage_class"},
}
_PARQUET = {pa.string(): "binary {} (UTF8)", pa.bool_(): "boolean {}", pa.int64(): "int64 {}"}
_ORC = {pa.string(): "string", pa.bool_(): "boolean", pa.int64(): "bigint"}


class Row(NamedTuple):
    """An object of an inventory."""

    key: str
    size: int | None = 9
    etag: str | None = "0" * 32
    latest: bool = True
    marker: bool = False
    modified: datetime | None = WRITTEN

    def values(self, bucket: str) -> dict[str, Any]:
        """By the inventory's columns."""
        return {
            "Bucket": bucket, "Key": self.key, "VersionId": "v", "IsLatest": self.latest,
            "IsDeleteMarker": self.marker, "Size": self.size, "LastModifiedDate": self.modified,
            "ETag": self.etag, "StorageClass": "STANDARD",
        }  # fmt: skip


def objects(client: Any, bucket: str, prefix: str = "") -> list[Row]:
    """What a bucket holds."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    found = [one for page in pages for one in page.get("Contents", [])]
    return [
        Row(one["Key"], one["Size"], one["ETag"].strip('"'), modified=one["LastModified"]) for one in found
    ]


def data_file(bucket: str, rows: list[Row], form: str, columns: list[str]) -> bytes:
    """A data file of an inventory."""
    values = [row.values(bucket) for row in rows]
    if form == "CSV":
        lines = [",".join(f'"{_csv(one[name], name)}"' for name in columns) + "\n" for one in values]
        return gzip.compress("".join(lines).encode())
    schema = pa.schema([(_SNAKE[name], COLUMNS[name]) for name in columns])
    table = pa.table({_SNAKE[name]: [one[name] for one in values] for name in columns}, schema=schema)
    file = io.BytesIO()
    if form == "Parquet":
        pq.write_table(table, file, row_group_size=5)
    else:
        times = [
            pa.field(one.name, pa.timestamp("ns") if pa.types.is_timestamp(one.type) else one.type)
            for one in schema
        ]
        orc.write_table(table.cast(pa.schema(times)), file)
    return file.getvalue()


def _csv(value: Any, name: str) -> str:
    if name == "Key":
        return quote_plus(value, safe="/")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return "" if value is None else str(value)


def schema_text(form: str, columns: list[str]) -> str:
    """``fileSchema`` of a manifest."""
    if form == "CSV":
        return ", ".join(columns)
    if form == "ORC":
        fields = [f"{_SNAKE[name]}:{_ORC.get(COLUMNS[name], 'timestamp')}" for name in columns]
        return f"struct<{','.join(fields)}>"
    parts = []
    for name in columns:
        kind = "required" if name in ("Bucket", "Key") else "optional"
        text = _PARQUET.get(COLUMNS[name], "int64 {} (TIMESTAMP(MILLIS,true))")
        parts.append(f"  {kind} {text.format(_SNAKE[name])};")
    return f"message s3.inventory {{{''.join(parts)}}}"


def publish(
    client: Any,
    bucket: str,
    files: list[list[Row]],
    *,
    form: str = "CSV",
    columns: list[str] = CURRENT,
    date: str = "2026-01-02T01-00Z",
    checksum: str | None = None,
    source: str | None = None,
) -> str:
    """Publish an inventory as the service does, data first; returns the folder to give as `inventory`."""
    folder, named = FOLDER.format(bucket=bucket), []
    ending = {"CSV": "csv.gz", "Parquet": "parquet", "ORC": "orc"}[form]
    for rows in files:
        data = data_file(bucket, rows, form, columns)
        digest = hashlib.md5(data).hexdigest()
        key = f"{folder}/data/{digest}.{ending}"
        client.put_object(Bucket=bucket, Key=key, Body=data)
        named.append({"key": key, "size": len(data), "MD5checksum": digest})
    manifest = json.dumps({
        "sourceBucket": source or bucket, "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30", "creationTimestamp": "1767315600000", "fileFormat": form,
        "fileSchema": schema_text(form, columns), "files": named,
    }).encode()  # fmt: skip
    checksum = hashlib.md5(manifest).hexdigest() + "\n" if checksum is None else checksum
    client.put_object(Bucket=bucket, Key=f"{folder}/{date}/manifest.json", Body=manifest)
    if checksum:
        client.put_object(Bucket=bucket, Key=f"{folder}/{date}/manifest.checksum", Body=checksum.encode())
    return f"s3://{bucket}/{folder}"


def notification(
    bucket: str, row: Row, name: str = "ObjectCreated:Put", sequencer: str = "00"
) -> dict[str, Any]:
    """A record of S3 Event Notifications."""
    one: dict[str, Any] = {"key": quote_plus(row.key, safe="/"), "sequencer": sequencer}
    if name.startswith("ObjectCreated"):
        one |= {"size": row.size, "eTag": row.etag}
    return {
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2026-01-01T02:03:04.567Z", "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "all",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"}, "object": one,
        },
    }  # fmt: skip


def bridge_event(
    bucket: str, row: Row, name: str = "Object Created", sequencer: str = "00"
) -> dict[str, Any]:
    """An event as EventBridge hands it on."""
    one: dict[str, Any] = {"key": row.key, "sequencer": sequencer}
    if name == "Object Created":
        one |= {"size": row.size, "etag": row.etag}
    return {
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": name,
        "source": "aws.s3", "account": "111122223333", "time": "2026-01-01T02:03:04Z", "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": one, "reason": "PutObject"},
    }  # fmt: skip
