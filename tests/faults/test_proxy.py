"""The proxy before real servers: moto, an S3 server on disk, and a chat server."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.faults import answers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Bandwidth, Clock, Cut, Latency
from tests.faults.stores import HAS_DURABLE_STORE, MISSING, DurableStore
from tests.got_core.annotate.chat_server import ChatServer

KEYS = ("plain.png", "a b/ü+&%.png", "deep/er/x=1?y#z")


def s3(proxy: FaultProxy) -> Any:
    """A client that tries everything once."""
    session = botocore.session.get_session()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return session.create_client("s3", region_name="us-east-1", endpoint_url=proxy.url, config=config, **keys)


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def test_what_goes_through_is_unchanged_and_counted(faulty_s3: FaultProxy) -> None:
    client, bucket = s3(faulty_s3), faulty_s3.bucket
    data = bytes(range(256)) * 1000
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=data)
        got = client.get_object(Bucket=bucket, Key=key, Range="bytes=100000-100009")
        assert got["Body"].read() == data[100000:100010]
        assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(data)
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert {one["Key"] for one in listed} == set(KEYS)
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert faulty_s3.by_method() == {"PUT": 3, "GET": 5, "HEAD": 3, "POST": 1}
    assert faulty_s3.count("GET", "list-type=2") == 2 and faulty_s3.count("GET", "plain", 206) == 1
    faulty_s3.forget()
    assert not faulty_s3.seen


def test_rules_fit_by_method_and_path_and_so_many_times(faulty_s3: FaultProxy) -> None:
    client, bucket = s3(faulty_s3), faulty_s3.bucket
    for key in ("a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    rule = faulty_s3.add(answers.SLOW_DOWN, method="GET", path="/b$", skip=1, times=2)
    results = []
    for key in ("a", "b", "b", "a", "b", "b"):
        try:
            results.append(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            results.append(error.response["Error"]["Code"])
    assert results == [b"x", b"x", "SlowDown", b"x", "SlowDown", b"x"]
    assert (rule.used, rule.fitting) == (2, 4)
    faulty_s3.add(answers.EXPIRED_TOKEN)
    with pytest.raises(ClientError) as caught:
        client.list_objects_v2(Bucket=bucket)
    assert code_of(caught) == "ExpiredToken"
    with pytest.raises(ClientError, match="400"):
        client.head_object(Bucket=bucket, Key="a")
    faulty_s3.clear()
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_cut_connections(faulty_s3: FaultProxy) -> None:
    client, bucket = s3(faulty_s3), faulty_s3.bucket
    client.put_object(Bucket=bucket, Key="a", Body=bytes(100_000))
    faulty_s3.add(Cut(40_000), method="GET", times=1)
    address = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a"})
    with urllib.request.urlopen(address) as response:
        assert response.headers["Content-Length"] == "100000"
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    faulty_s3.add(Cut(), method="GET", times=1)
    with pytest.raises((urllib.error.URLError, ConnectionError, http.client.HTTPException)):
        urllib.request.urlopen(address)
    faulty_s3.add(Cut(0), method="PUT", times=1)
    with pytest.raises(Exception, match=r"closed|reset|aborted"):
        client.put_object(Bucket=bucket, Key="b", Body=b"done all the same")
    assert client.get_object(Bucket=bucket, Key="b")["Body"].read() == b"done all the same"
    assert [one.status for one in faulty_s3.seen if one.status == 0] == [0, 0, 0]


def test_nobody_listens_for_a_while(faulty_s3: FaultProxy) -> None:
    client = s3(faulty_s3)
    client.list_buckets()
    with faulty_s3.down(), pytest.raises(EndpointConnectionError):
        client.list_buckets()
    client.list_buckets()


def test_latency_and_bandwidth(faulty_s3: FaultProxy) -> None:
    client, bucket = s3(faulty_s3), faulty_s3.bucket
    client.put_object(Bucket=bucket, Key="a", Body=bytes(64 * 1024))
    faulty_s3.add(Latency(0.2), method="HEAD")
    faulty_s3.add(Bandwidth(256 * 1024), method="GET")
    began = time.monotonic()
    client.head_object(Bucket=bucket, Key="a")
    assert time.monotonic() - began >= 0.2
    began = time.monotonic()
    assert len(client.get_object(Bucket=bucket, Key="a")["Body"].read()) == 64 * 1024
    assert time.monotonic() - began >= 0.25


@pytest.mark.parametrize(("seconds", "refused"), [(3600, True), (-3600, True), (600, False)])
def test_a_clock_that_is_off(faulty_s3: FaultProxy, seconds: float, refused: bool) -> None:
    faulty_s3.add(Clock(seconds))
    client = s3(faulty_s3)
    if refused:
        with pytest.raises(ClientError) as caught:
            client.list_buckets()
        assert code_of(caught) == "RequestTimeTooSkewed"
    else:
        client.list_buckets()


def test_before_a_model_server(fault_proxy: Callable[..., FaultProxy]) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        assert urlsplit(proxy.url).path == "/v1"
        proxy.add(answers.too_many_requests(7), times=1)
        address = f"{proxy.url}/chat/completions"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address, data=b"{}")
        assert caught.value.code == 429 and caught.value.headers["Retry-After"] == "7"
        assert not server.requests and proxy.count("POST", status=429) == 1


@pytest.mark.skipif(not HAS_DURABLE_STORE, reason=MISSING)
def test_a_store_on_disk_survives_being_killed(
    tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    with DurableStore(tmp_path / "store") as store:
        proxy = fault_proxy(store.url, split_bulk_delete=True)
        client = s3(proxy)
        client.create_bucket(Bucket="kept")
        for key in ("a b", "c/d"):
            client.put_object(Bucket="kept", Key=key, Body=key.encode())
        store.kill()
        with pytest.raises(Exception, match=r"closed|reset|aborted"):
            client.get_object(Bucket="kept", Key="a b")
        store.start()
        assert client.get_object(Bucket="kept", Key="a b")["Body"].read() == b"a b"
        keys = [{"Key": "a b"}, {"Key": "c/d"}, {"Key": "never there"}]
        done = client.delete_objects(Bucket="kept", Delete={"Objects": keys})
        assert {one["Key"] for one in done["Deleted"]} == {"a b", "c/d", "never there"}
        assert client.list_objects_v2(Bucket="kept")["KeyCount"] == 0
