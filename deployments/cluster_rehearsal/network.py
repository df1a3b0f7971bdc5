"""Addresses: a network namespace for each machine of the rehearsal, on one bridge; removed at the end.

Without the right to make namespaces machines are addresses of the loopback network. Belongs here: making and
removing both. Not here: what runs there (`machines`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

MARK = "gotcr"
"""Beginning of the names of bridge, cables and namespaces: what a rehearsal that was killed left behind is
found by it."""
OUTSIDE = "outside"
"""The machine of whoever looks at the cluster: on the network, and no part of it."""


@dataclass(frozen=True)
class Address:
    """Where a machine is reached."""

    machine: str
    host: str
    namespace: str | None
    """None: this machine's own network."""

    def inside(self, command: list[str]) -> list[str]:
        """The command as it is run on that machine."""
        return command if self.namespace is None else ["ip", "netns", "exec", self.namespace, *command]


def can_make_namespaces() -> bool:
    """Whether this process may make network namespaces with addresses of their own: tried, for containers of
    root often may not."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"{MARK}-probe"
    if _ip("netns", "add", probe, check=False):
        return False
    made = _ip("link", "add", f"{MARK}p", "type", "bridge", check=False) == 0
    if made:
        _ip("link", "delete", f"{MARK}p")
    _ip("netns", "delete", probe)
    return made


@contextmanager
def network(
    machines: list[str], *, namespaces: bool, mark: str = MARK, subnet: str = "10.177.0"
) -> Iterator[dict[str, Address]]:
    """An address for each machine while it is open; this process has the subnet's first one.

    What an earlier network of the same mark left behind is removed before.
    """
    if not namespaces:
        yield {name: Address(name, f"127.0.77.{number}", None) for number, name in enumerate(machines, 11)}
        return
    remove_left_behind(mark)
    with ExitStack() as stack:
        stack.callback(remove_left_behind, mark)
        bridge = f"{mark}0"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield {name: _machine(name, number, mark, subnet) for number, name in enumerate(machines, 11)}


def _machine(name: str, number: int, mark: str, subnet: str) -> Address:
    """A namespace with one end of a cable, whose other end is in the bridge."""
    namespace, host, cable = f"{mark}-{name}", f"{subnet}.{number}", f"{mark}{number}"
    _ip("netns", "add", namespace)
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _ip("link", "set", cable, "master", f"{mark}0", "up")
    for line in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up")):
        _ip("-netns", namespace, *line)
    _ip("-netns", namespace, "address", "add", f"{host}/24", "dev", "eth0")
    return Address(name, host, namespace)


def remove_left_behind(mark: str = MARK) -> None:
    """Remove namespaces, cables and bridge of a mark."""
    for name in _listed("netns", "list"):
        if name.startswith(f"{mark}-"):
            _ip("netns", "delete", name, check=False)
    # A cable goes with its namespace, but not at once, and not before its last process has ended.
    for name in _listed("-brief", "link", "show", "type", "veth"):
        if re.fullmatch(rf"{mark}\d+@\w+", name):
            _ip("link", "delete", name.partition("@")[0], check=False)
    _ip("link", "delete", f"{mark}0", check=False)


def _listed(*arguments: str) -> list[str]:
    """The first word of each line."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.returncode
