"""Networks of tests, whose names and addresses are those of no other process."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from deployments.cluster_rehearsal.network import Address, network


def mark() -> str:
    """Beginning of names: the longest cable's has 15 letters."""
    return f"gt{os.getpid() % 10**6}x"


def own_network(machines: list[str]) -> AbstractContextManager[dict[str, Address]]:
    """Namespaces of a subnet of this process."""
    return network(
        machines, namespaces=True, mark=mark(), subnet=f"10.{178 + os.getpid() % 50}.{os.getpid() % 251}"
    )
