"""Ports for servers of other processes, which take them later."""

from __future__ import annotations

import random
import socket

_FROM, _TO = 20_000, 32_000
"""The system gives none of these to a connection, so that nobody has a port before its server starts; Ray's
workers listen below."""


def free_port() -> int:
    """A port at which nobody listens."""
    while True:
        port = random.SystemRandom().randrange(_FROM, _TO)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
