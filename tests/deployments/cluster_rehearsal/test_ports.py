"""Who may reach what: the table, its rules in real namespaces, and requests that are signed or not."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.cluster_rehearsal import firewall, proxy
from deployments.cluster_rehearsal.firewall import PORTS, listening_in, may_reach, port_of, rules
from deployments.cluster_rehearsal.machines import listens
from deployments.cluster_rehearsal.network import OUTSIDE, Address, can_make_namespaces
from deployments.cluster_rehearsal.signatures import OLDEST, is_signed
from tests.deployments.cluster.files import CLUSTER
from tests.deployments.cluster_rehearsal.namespaces import own_network

TARGET = "/got?list-type=2&prefix=storage%2Fa&delimiter=%2F"
HEADERS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0E00B10A:1849 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0E00B10A:9C40 0F00B10A:1849 01 00000000:00000000 00:00000000 00000000     0        0 3 1
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:2712 00000000000000000000000000000000:0000 0A 0 0 0
   1: 00000000000000000000000001000000:2713 00000000000000000000000000000000:0000 0A 0 0 0
   2: 0000000000000000FFFF00000100007F:2714 00000000000000000000000000000000:0000 0A 0 0 0
   3: 0000000000000000FFFF00000E00B10A:2715 00000000000000000000000000000000:0000 0A 0 0 0
"""


def test_ports_that_others_could_reach_are_read_from_linux() -> None:
    assert listening_in(HEADERS) == [0x1849, 0x2712, 0x2715]


def test_the_page_has_the_table() -> None:
    assert firewall.table() in (CLUSTER.parent / "cluster_rehearsal" / "README.md").read_text()


def test_from_outside_nothing_is_reached_but_the_proxy() -> None:
    reached = {(one.server, one.number) for one in PORTS if may_reach(OUTSIDE, one)}
    assert reached == {("nginx", proxy.RUNNERS), ("nginx", proxy.READERS), ("nginx", proxy.TRACKING)}
    open_to_servers = {(one.server, one.clients) for one in PORTS if one.asks == "nothing"}
    assert open_to_servers == {("webserver", ("nginx",)), ("code", ("daemon", "webserver"))}
    assert port_of("ray-1", 45_678) and port_of("code", 45_678) is None


def signed(method: str, target: str, secret: str, *, minutes: float = 0.0) -> dict[str, str]:
    """Headers as boto3 makes them."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, f"http://store:9000{target}", headers={"Host": "store:9000"}, data=b"it")
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    signer = S3SigV4Auth(Credentials("got", secret), "s3", "us-east-1")
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    request.headers["X-Amz-Content-SHA256"] = signer.payload(request)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    signer._inject_signature_to_request(request, signature)
    return {name.lower(): value for name, value in request.headers.items()}


class Anycase(dict[str, str]):
    """Headers as a server has them."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return super().get(name.lower(), default)


def let_in(method: str, target: str, headers: Mapping[str, str]) -> bool:
    return is_signed(method, target, Anycase(headers), "got", "secret")


def test_a_request_is_let_in_only_as_it_was_signed() -> None:
    good = signed("GET", TARGET, "secret")
    assert let_in("GET", TARGET, good)
    assert not let_in("DELETE", TARGET, good)
    assert not let_in("GET", TARGET.replace("prefix", "suffix"), good)
    assert not let_in("GET", TARGET, good | {"x-amz-content-sha256": "0" * 64})
    assert not let_in("GET", TARGET, {})
    assert not let_in("GET", TARGET, signed("GET", TARGET, "guess"))
    assert not let_in("GET", TARGET, signed("GET", TARGET, "secret", minutes=OLDEST.seconds / 60 + 1))
    assert not is_signed("GET", TARGET, Anycase(good), "other", "secret")


def test_a_presigned_address_is_let_in_as_long_as_it_says() -> None:
    """MLflow's clients read from the store by such addresses."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url="http://store:9000", aws_access_key_id="got", aws_secret_access_key="secret",
        region_name="us-east-1", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )  # fmt: skip
    given = {"Bucket": "bucket", "Key": "a folder/it+1.txt"}
    url = client.generate_presigned_url("get_object", Params=given, ExpiresIn=60)
    target, headers = url.removeprefix("http://store:9000"), {"host": "store:9000"}
    assert let_in("GET", target, headers)
    assert not let_in("PUT", target, headers)
    assert not let_in("GET", target.replace("it%2B1", "it%2B2"), headers)
    assert not let_in("GET", target.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), headers)
    assert not let_in("GET", target, {"host": "elsewhere:9000"})
    over = client.generate_presigned_url("get_object", Params=given, ExpiresIn=0).removeprefix(
        "http://store:9000"
    )
    assert not let_in("GET", over, headers)
    assert not is_signed("GET", target, Anycase(headers), "got", "guess")


def test_the_teams_proxy_gets_the_addresses_of_the_rehearsal() -> None:
    text = (CLUSTER / "nginx.conf").read_text()
    host = {"nginx": "10.0.0.1", "webserver": "10.0.0.2", "mlflow": "10.0.0.3"}
    moved = proxy._moved(text, Path("/own"), host)
    assert "listen 10.0.0.1:8443 ssl" in moved and "set $mlflow 10.0.0.3:5000;" in moved
    assert moved.count("10.0.0.2:3000;") == 2
    assert not any(name in moved for name in ("/tmp/", "/run/secrets", "resolver", "/dev/std"))


@pytest.mark.skipif(not can_make_namespaces(), reason="needs the right to make network namespaces")
@pytest.mark.skipif(firewall.found() is None, reason="nftables is not installed")
def test_rules_let_in_whom_the_table_names_and_tell_others_at_once() -> None:
    machines = ["code", "daemon", "nginx", OUTSIDE, "webserver"]
    with own_network([*machines, *{one.server for one in PORTS} - {*machines}]) as hosts:
        firewall.close(hosts)
        code = hosts["code"]
        serve = f"import socket, time; s = socket.create_server(({code.host!r}, 4000)); time.sleep(600)"
        process = subprocess.Popen(code.inside([sys.executable, "-I", "-c", serve]))
        try:
            until = time.monotonic() + 60
            while not listens(code.host, 4000):
                assert time.monotonic() < until
            assert firewall.listening(code) == [4000]
            seen = {name: look(hosts[name], code) for name in machines}
        finally:
            process.kill()
            process.wait()
    closed = "closed: EHOSTUNREACH"
    assert seen == {"code": "open", "daemon": "open", "webserver": "open", "nginx": closed, OUTSIDE: closed}


def look(machine: Address, server: Address) -> str:
    (state,) = firewall.seen_from(machine, [(server.host, 4000)])
    return state


def test_rules_are_of_one_machine() -> None:
    hosts = {
        name: Address(name, f"10.0.0.{number}", name)
        for number, name in enumerate(["code", "daemon", "webserver", "nginx"], 11)
    }
    assert "ip saddr { 10.0.0.12, 10.0.0.13 } tcp dport 4000 accept" in rules("code", hosts)
    assert "ip saddr 10.0.0.1 accept" in rules("code", hosts) and "8443" not in rules("code", hosts)
    assert "tcp dport 8443 accept" in rules("nginx", hosts)
