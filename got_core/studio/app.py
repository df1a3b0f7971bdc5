"""The studio as a web application: the page, its files, who may come in, what the browser may load.

Belongs here: putting together, and the door. Not here: widgets (`page`).
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from got_core.server_settings import StudioSettings
from got_core.serving.gate import is_loopback
from got_core.studio.desk import Studio
from got_core.studio.page import HEAD, make_page

STATIC = Path(__file__).parent / "static"

# Gradio compiles its templates and handlers in the browser: hence the two unsafe-. Nothing comes from
# elsewhere, and nothing goes elsewhere.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def check_door(settings: StudioSettings) -> dict[str, str]:
    """Passwords by name. Raises ValueError for accounts that cannot be read, and where anybody on a network
    could use the studio."""
    text = settings.users.get_secret_value() if settings.users else ""
    found: dict[str, str] = {}
    for number, entry in enumerate(filter(None, (one.strip() for one in text.split(","))), start=1):
        name, _, password = entry.partition(":")
        if not name or len(password) < 8:
            raise ValueError(
                f"GOT_STUDIO_USERS: account {number} must be name:password, with 8 characters or more"
            )
        found[name] = password
    if not found and not is_loopback(settings.host):
        raise ValueError(
            f"listening at {settings.host} needs accounts: set GOT_STUDIO_USERS to name:password, or take "
            "127.0.0.1"
        )
    return found


def make_app(studio: Studio, settings: StudioSettings) -> FastAPI:
    """The application. Raises as `check_door`."""
    users = check_door(settings)
    app = FastAPI(title="got studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/studio", StaticFiles(directory=STATIC))
    fonts = ("system-ui", "sans-serif")
    options: dict[str, Any] = {"auth": lambda name, word: _known(users, name, word)} if users else {}
    app = gr.mount_gradio_app(
        app,
        make_page(studio, settings.at_once),
        path="/",
        ssr_mode=False,
        # Gradio's own fonts come from a font server.
        theme=gr.themes.Default(font=fonts, font_mono=("monospace",)),
        head=HEAD,
        max_file_size=settings.max_bytes,
        footer_links=[],
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        **options,
    )
    app.add_middleware(_Door, local=not users)
    return app


def _known(users: dict[str, str], name: str, word: str) -> bool:
    """Whether an account has this password; as quick for a name that is none."""
    return hmac.compare_digest(users.get(name, "").encode(), word.encode()) and name in users


class _Door:
    """Tells browsers what they may load. Without accounts it answers to this machine's own names alone, so
    that no web page reaches the studio by a name of its own (DNS rebinding), and to no page of another
    server, which would act for the artist."""

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self.app, self.local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.local and not _is_own(Headers(scope=scope)):
            await PlainTextResponse("this studio answers to localhost only", 403)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, guarded)


def _is_own(headers: Headers) -> bool:
    """Whether a request is to this machine's own name, and from the studio's own page or no page."""
    host = headers.get("host", "")
    origin = re.sub("^https?://", "", headers.get("origin", host))
    return is_loopback(_name_of(host)) and origin == host


def _name_of(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
