"""Who reaches which port: one table, the rules of nftables made from it, and what is seen from each machine.

Belongs here: ports. Not here: addresses (`network`), asking servers without credentials (`probe`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deployments.cluster_rehearsal import commands, proxy
from deployments.cluster_rehearsal.network import OUTSIDE, Address

RAY = ("ray-head", *commands.RAY_NODES)
DAGSTER = ("code", "daemon", "webserver")
"""Runs are processes beside the code server."""
EVERYBODY = "everybody"

_LISTENS = "0A"
_LOOPBACK = re.compile("([0]{16}FFFF0000)?[0-9A-F]{6}7F|[0]{24}01000000")
"""Of four bytes each, the last first: 127.0.0.0/8, as an IPv6 address or not, and ::1."""


@dataclass(frozen=True)
class Port:
    """A port of a server, what it asks for, and which machines the network lets reach it."""

    server: str
    number: int | None
    """None: all others that the server opens."""
    asks: str
    clients: tuple[str, ...]


PORTS = (
    Port("nginx", proxy.RUNNERS, "name and password", (EVERYBODY,)),
    Port("nginx", proxy.READERS, "name and password", (EVERYBODY,)),
    Port("nginx", proxy.TRACKING, "MLflow's users", (EVERYBODY,)),
    Port("webserver", commands.PAGE, "nothing", ("nginx",)),
    Port("code", commands.CODE, "nothing", ("daemon", "webserver")),
    Port("mlflow", commands.MLFLOW, "MLflow's users", ("nginx", "code", *RAY)),
    Port("postgres", commands.POSTGRES, "password", ("mlflow", *DAGSTER)),
    Port("s3", commands.S3, "signed requests", ("mlflow", *DAGSTER, *RAY)),
    Port("annotator", commands.ANNOTATOR, "key", ("code",)),
    Port("ray-head", commands.JOBS, "Ray's token", ("code", *RAY)),
    *(Port(name, None, "Ray's token, or nothing", RAY) for name in RAY),
)
"""Everything that listens on an address that others have. The first that fits counts."""


def table() -> str:
    """In Markdown."""
    lines = ["| server | port | asks for | reached from |", "|---|---|---|---|"]
    for one in PORTS:
        number = "all others" if one.number is None else one.number
        lines.append(f"| {one.server} | {number} | {one.asks} | {', '.join(one.clients)} |")
    return "\n".join(lines)


_CODE = """
import concurrent.futures, errno, json, socket, sys

def look(place):
    with socket.socket() as one:
        one.settimeout(10)
        found = one.connect_ex((place[0], place[1]))
        return "open" if found == 0 else "closed: " + (errno.errorcode.get(found) or "no answer")

places = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    json.dump([*pool.map(look, places)], sys.stdout)
"""


def found() -> str | None:
    """nft, if it is installed."""
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")


def program() -> str:
    """nft. Raises FileNotFoundError."""
    if path := found():
        return path
    raise FileNotFoundError("nft is not there: apt-get install nftables")


def close(hosts: Mapping[str, Address]) -> None:
    """Let each machine be reached as the table says, and by the rehearsal (the subnet's first address).

    Addresses of the loopback network stay open. Raises RuntimeError where nftables cannot be told.
    """
    for name, one in hosts.items():
        if one.namespace is None:
            continue
        done = subprocess.run(
            one.inside([program(), "-f", "-"]), input=rules(name, hosts), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"nft in {one.namespace}: {done.stderr.strip()}")


def rules(machine: str, hosts: Mapping[str, Address]) -> str:
    """nftables' rules of a machine: all that is not let in is told so at once."""
    gateway = hosts[machine].host.rpartition(".")[0] + ".1"
    let_in = [_rule(port, hosts) for port in PORTS if port.server == machine]
    lines = [
        'iifname "lo" accept',
        "ct state established,related accept",
        "meta l4proto { icmp, icmpv6 } accept",
        f"ip saddr {gateway} accept",
        *let_in,
        "reject with icmpx type admin-prohibited",
    ]
    chain = "\n".join(f"    {line}" for line in ["type filter hook input priority 0; policy drop;", *lines])
    return f"table inet got {{\n  chain input {{\n{chain}\n  }}\n}}\n"


def _rule(port: Port, hosts: Mapping[str, Address]) -> str:
    number = "meta l4proto tcp" if port.number is None else f"tcp dport {port.number}"
    if EVERYBODY in port.clients:
        return f"{number} accept"
    return f"ip saddr {{ {', '.join(hosts[name].host for name in port.clients)} }} {number} accept"


# -- what is seen -------------------------------------------------------------------------------------


def listening(machine: Address) -> list[int]:
    """TCP ports that are open on a machine of a namespace, beyond its loopback network."""
    files = ["/proc/net/tcp", "/proc/net/tcp6"]
    said = subprocess.run(machine.inside(["cat", *files]), capture_output=True, text=True, check=True).stdout
    return listening_in(said)


def listening_in(text: str) -> list[int]:
    """The same of what Linux says in /proc/net/tcp and tcp6."""
    found = set()
    for _, local, _, state, *_ in (line.split() for line in text.splitlines() if "address" not in line):
        address, _, port = local.partition(":")
        if state == _LISTENS and not _LOOPBACK.fullmatch(address):
            found.add(int(port, 16))
    return sorted(found)


def open_ports(hosts: Mapping[str, Address]) -> dict[str, list[int]]:
    """Of each server."""
    return {name: listening(one) for name, one in hosts.items() if name != OUTSIDE}


def port_of(server: str, number: int) -> Port | None:
    """The table's line, or None where it has none."""
    return next((one for one in PORTS if one.server == server and one.number in (number, None)), None)


def may_reach(machine: str, port: Port) -> bool:
    """Whether the table says that a machine reaches a port."""
    return EVERYBODY in port.clients or machine in port.clients


def seen_from(machine: Address, places: Iterable[tuple[str, int]]) -> list[str]:
    """Of each host and port whether a connection is taken: ``open``, or ``closed:`` and how."""
    command = machine.inside([sys.executable, "-I", "-c", _CODE])
    told = json.dumps([*places])
    return json.loads(subprocess.run(command, input=told, capture_output=True, text=True, check=True).stdout)


def check(hosts: Mapping[str, Address]) -> str:
    """Try every open port of every server from every other machine; in a sentence what was seen.

    Raises AssertionError, naming them, where a port is not in the table, the table names one that is not
    there, or one is open to others than it says.
    """
    there = open_ports(hosts)
    wrong = [
        f"{server}:{number} is not in the table"
        for server, numbers in there.items()
        for number in numbers
        if port_of(server, number) is None
    ]
    wrong += [
        f"{one.server}:{one.number} is in the table and does not listen"
        for one in PORTS
        if one.number is not None and one.number not in there[one.server]
    ]
    places = [(server, number) for server, numbers in there.items() for number in numbers]

    def look(machine: str) -> list[tuple[str, str, int, bool]]:
        others = [(server, number) for server, number in places if server != machine]
        found = seen_from(hosts[machine], [(hosts[server].host, number) for server, number in others])
        return [(machine, *place, state == "open") for place, state in zip(others, found, strict=True)]

    with ThreadPoolExecutor(2) as pool:
        seen = [one for part in pool.map(look, hosts) for one in part]
    for machine, server, number, is_open in seen:
        port = port_of(server, number)
        # Ray's processes come and go between two looks.
        gone = port is not None and port.number is None and not is_open
        if port is not None and is_open != may_reach(machine, port) and not gone:
            wrong.append(f"{server}:{number} is {'open' if is_open else 'closed'} to {machine}")
    if wrong:
        raise AssertionError("ports are otherwise than the table says: " + "; ".join(wrong))
    outside = [f"{place[1]}:{place[2]}" for place in seen if place[0] == OUTSIDE and place[3]]
    return (
        f"{len(places)} ports of {len(there)} servers from {len(hosts)} machines: as the table says; "
        f"from outside are open {', '.join(outside)}"
    )
