"""The server as a process: model, safety check and signing from settings, then uvicorn.

Belongs here: from settings to a listening server. Not here: the application (`app`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from got_core.registry.loading import LoadOptions
from got_core.server_settings import ServeSettings
from got_core.serving.app import make_app
from got_core.serving.gate import check_listening
from got_core.serving.models import ModelSlot
from got_core.serving.provenance import publisher_of

_GRACE = 120
"""Seconds that requests under way have when the server is stopped."""


def serve(
    reference: str, tracking_uri: str, settings: ServeSettings, report: Callable[[str], None] = print
) -> None:
    """Load a model and answer requests until the process is stopped.

    Raises ValueError for an address that needs a token and for load options that cannot be used, OSError for
    one that is taken, and as `model_folder`.
    """
    token = settings.token.get_secret_value() if settings.token else None
    check_listening(settings.host, token)
    with listening_socket(settings.host, settings.port) as listening:
        slot = ModelSlot(reference, tracking_uri, load_options(settings))
        app = make_app(slot, settings, publisher_of(settings))
        report(f"serving {slot.current.name} at {url_of(listening)} (OpenAPI page: /docs)")
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE)
        uvicorn.Server(config).run(sockets=[listening])


def load_options(settings: ServeSettings) -> LoadOptions:
    """How the model is loaded. Raises ValueError."""
    names = ("device", "dtype", "offload", "eight_bits", "batch")
    return LoadOptions(**{name: getattr(settings, name) for name in names})


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket, before anything is loaded: an address that is taken is said at once, as OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise OSError(f"{host}:{port} cannot be listened at: {error}") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Where browsers and clients find it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
