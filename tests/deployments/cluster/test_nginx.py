"""The proxy's configuration in a real nginx (Debian's, if it is installed): who is let in, and as whom."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .files import CLUSTER

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or shutil.which(
    "nginx"
)
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-core)")
RUNNERS, READERS, TRACKING = 8443, 8444, 8445
SHOWN = ("X-Auth-Request-User", "X-Forwarded-Email", "Authorization", "Host", "Upgrade")


class _Behind(BaseHTTPRequestHandler):
    """Every server behind the proxy: says who it is and what it was sent. oauth2-proxy knows one cookie."""

    def do_GET(self) -> None:
        name = self.server.name  # type: ignore[attr-defined]
        known = "good" in (self.headers.get("Cookie") or "")
        body = "\n".join([name, self.path, *(f"{one}={self.headers.get(one)}" for one in SHOWN)]).encode()
        self.send_response((202 if known else 401) if self.path.startswith("/oauth2/auth") else 200)
        if known and name == "oauth2-proxy":
            self.send_header("X-Auth-Request-Email", "ada@example.com")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificate(folder: Path) -> None:
    """A certificate of the test's own, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "tls_certificate").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "tls_key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


@dataclass
class Proxy:
    """A running nginx; its ports by those of the configuration."""

    ports: dict[int, int]

    def get(
        self, port: int, path: str = "/", login: str = "", **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of an answer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports[port], context=context, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if login:
            sent["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        connection.request("GET", path, headers=sent)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode(), dict(answer.getheaders())
        connection.close()
        return found


@pytest.fixture(scope="module", params=["basic", "oauth"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """nginx with the real files; only addresses and folders are those of the test."""
    folder = tmp_path_factory.mktemp("nginx")
    certificate(folder)
    (folder / "htpasswd").write_text("ada:{PLAIN}secret\n")
    (folder / "htpasswd_readers").write_text("bob:{PLAIN}look\n")
    servers = {}
    for name in ("webserver", "webserver-read", "mlflow", "oauth2-proxy"):
        servers[name] = ThreadingHTTPServer(("127.0.0.1", 0), _Behind)
        servers[name].name = name  # type: ignore[attr-defined]
        threading.Thread(target=servers[name].serve_forever, kwargs={"poll_interval": 0.02}).start()
    ports = {port: free_port() for port in (RUNNERS, READERS, TRACKING)}
    for file in ("nginx.conf", f"access-{request.param}.conf"):
        (folder / file.replace(f"-{request.param}", "")).write_text(
            moved((CLUSTER / file).read_text(), folder, servers, ports)
        )
    (folder / "log").touch()
    # A worker of root's would be nobody, who cannot read the test's folder.
    more = "daemon off; user root root;" if os.geteuid() == 0 else "daemon off;"
    command = [str(NGINX), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log"), "-g", more]
    process = subprocess.Popen(command)
    try:
        _wait(process, ports[RUNNERS], folder / "log")
        yield Proxy(ports)
    finally:
        process.terminate()
        process.wait(20)
        for server in servers.values():
            server.shutdown()
            server.server_close()


def moved(text: str, folder: Path, servers: dict[str, ThreadingHTTPServer], ports: dict[int, int]) -> str:
    """A configuration with the test's own folders and addresses."""
    text = text.replace("/tmp/", f"{folder}/").replace("/run/secrets/", f"{folder}/")
    text = text.replace("/etc/nginx/access.conf", f"{folder}/access.conf")
    text = re.sub(r"/dev/std(out|err)", f"{folder}/log", text).replace(
        "resolver 127.0.0.11", "resolver 127.0.0.1"
    )
    for port, own in ports.items():
        text = text.replace(f"listen {port} ", f"listen 127.0.0.1:{own} ")
    for name, server in servers.items():
        text = re.sub(rf"(set \$\w+) {name}:\d+;", rf"\1 127.0.0.1:{server.server_address[1]};", text)
    return text


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_nobody_is_let_in_to_start_runs_without_a_name(proxy: Proxy, request: pytest.FixtureRequest) -> None:
    if kind(request) == "basic":
        assert proxy.get(RUNNERS)[0] == 401
        assert proxy.get(RUNNERS, login="ada:wrong")[0] == 401
        assert proxy.get(RUNNERS, login="bob:look")[0] == 401, "who may look may not start runs"
    else:
        status, _, headers = proxy.get(RUNNERS, "/runs?page=2")
        assert status == 302
        assert headers["Location"].endswith("/oauth2/sign_in?rd=/runs?page=2")
        assert proxy.get(RUNNERS, login="ada:secret")[0] == 302
        assert proxy.get(RUNNERS, "/oauth2/auth")[0] == 404, "asked by nginx alone"
        assert proxy.get(RUNNERS, "/oauth2/sign_in")[1].startswith("oauth2-proxy\n/oauth2/sign_in\n")


def test_dagster_gets_the_name_of_who_was_let_in_and_no_other(
    proxy: Proxy, request: pytest.FixtureRequest
) -> None:
    basic = kind(request) == "basic"
    let_in: dict[str, str] = {"login": "ada:secret"} if basic else {"Cookie": "session=good"}
    forged = {"X_Auth_Request_User": "eve", "X_Forwarded_Email": "eve@example.com"}
    for more in ({}, forged):
        status, body, _ = proxy.get(RUNNERS, "/graphql", **let_in, **more)
        assert status == 200
        server, path, *sent = body.split("\n")
        assert (server, path) == ("webserver", "/graphql")
        assert f"X-Auth-Request-User={'ada' if basic else 'ada@example.com'}" in sent
        assert "X-Forwarded-Email=None" in sent
        assert "Authorization=None" in sent, "the password goes no further"


def test_who_looks_reaches_the_page_that_starts_nothing(proxy: Proxy) -> None:
    assert proxy.get(READERS)[0] == 401
    assert proxy.get(READERS, login="bob:look")[1].startswith("webserver-read\n")


def test_mlflow_asks_for_its_own_users(proxy: Proxy) -> None:
    status, body, _ = proxy.get(TRACKING, "/api/2.0/mlflow/experiments/search", login="got:password")
    assert status == 200 and body.startswith("mlflow\n/api/2.0/mlflow/experiments/search\n")
    assert "Host=mlflow:5000" in body, "one of the names that MLflow answers to"
    assert f"Authorization=Basic {base64.b64encode(b'got:password').decode()}" in body


def kind(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["proxy"]
