"""nginx of a rehearsal: the configuration of `deployments/cluster`, with the addresses of the rehearsal.

Belongs here: its files, and a certificate of its own. Not here: its command line (`commands`), who may reach
it (`firewall`).
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

RUNNERS, READERS, TRACKING = 8443, 8444, 8445
"""Ports: Dagster, Dagster to look at, MLflow."""
PERSON = "ada"
"""Who is let in to start runs."""
SOURCE = Path(__file__).resolve().parents[1] / "cluster"
"""A team's files."""


def program() -> str:
    """nginx. Raises FileNotFoundError."""
    if path := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"):
        return path
    raise FileNotFoundError("nginx is not there: apt-get install nginx-light")


def write_files(folder: Path, host: Mapping[str, str], password: str) -> None:
    """Everything that it reads, below its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("nginx.conf", "access-basic.conf"):
        text = (SOURCE / name).read_text()
        (folder / name.replace("-basic", "")).write_text(_moved(text, folder, host))
    # nginx reads them as they are; a hash would take a program more.
    (folder / "htpasswd").touch(0o600)
    (folder / "htpasswd").write_text(f"{PERSON}:{{PLAIN}}{password}\n")
    (folder / "htpasswd_readers").write_text("")
    _write_certificate(folder, host["nginx"])


def certificate(folder: Path) -> Path:
    """What a browser has to trust."""
    return folder / "tls_certificate"


def _moved(text: str, folder: Path, host: Mapping[str, str]) -> str:
    text = text.replace("/tmp/", f"{folder}/").replace("/run/secrets/", f"{folder}/")
    text = text.replace("/etc/nginx/access.conf", f"{folder}/access.conf")
    text = text.replace("/dev/stdout", f"{folder}/access.log").replace("/dev/stderr", "stderr")
    text = text.replace("listen ", f"listen {host['nginx']}:")
    # Servers are addresses here: nothing is looked up. Nobody looks only, so one page is enough.
    text = re.sub(r"\n *resolver [^;]+;", "", text).replace("webserver-read:", "webserver:")
    text = text.replace("Host mlflow:5000", f"Host {host['mlflow']}:5000")
    return re.sub(r"(set \$\w+) ([a-z]+):(\d+);", lambda one: f"{one[1]} {host[one[2]]}:{one[3]};", text)


def _write_certificate(folder: Path, address: str) -> None:
    """A certificate for an address, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rehearsal")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    certificate(folder).write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    private = folder / "tls_key"
    private.touch(0o600)
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
