"""Web addresses as they are sent: byte for byte as given, so that signatures over them hold.

Only what no address may hold is percent-encoded (spaces, letters beyond ASCII, a lone ``%``), and names of
hosts beyond ASCII are spelled for the name service. Belongs here: reading and joining addresses. Does not
belong here: which hosts are allowed (``addresses``) and requests (``fetch``).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urljoin

from yarl import URL

from got_core.corpus.decode import ImageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::(\d{0,5}))?")
_HOST = re.compile(r"[a-z0-9._-]+")
_VALID_OR_BYTE = re.compile(rb"((?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})+)|(.)", re.DOTALL)


class WebAddress(NamedTuple):
    """An http or https address in its parts."""

    scheme: str
    host: str
    """As it is looked up: ASCII, small letters, IPv6 without brackets."""
    port: int | None
    target: str
    """Path and query, as they are sent."""

    def url(self) -> URL:
        """For aiohttp, which sends the path of it; a query of its own would lose a ``?`` that ends it."""
        return URL.build(scheme=self.scheme, host=self.host, port=self.port, path=self.target, encoded=True)

    def joined(self, location: str) -> WebAddress:
        """Where a redirect from here leads. Raises ImageError (bad_url)."""
        there = location.strip()
        if _SCHEME.match(there):
            return web_address(there)
        if there.startswith("//"):
            return web_address(f"{self.scheme}:{there}")
        path = self.target.partition("?")[0]
        given, question, query = _sent(there.partition("#")[0]).partition("?")
        if not given.startswith("/"):  # relative to the folder, dots resolved
            given = urljoin(f"http://h{path}", given).removeprefix("http://h") if given else path
        return self._replace(target=given + question + query)


def web_address(text: str) -> WebAddress:
    """An address in its parts. Raises ImageError (bad_url), which repeats nothing but the host."""
    scheme = _SCHEME.match(text.strip())
    if not scheme or scheme[1].lower() not in ("http", "https"):
        name = scheme[1] if scheme else "no scheme"
        raise ImageError("bad_url", f"{name[:20]}: only http and https are fetched")
    rest = text.strip()[scheme.end() :].partition("#")[0]
    if not rest.startswith("//"):
        raise ImageError("bad_url", "no host")
    authority = re.split(r"[/?]", rest[2:], maxsplit=1)[0]
    target = rest[2 + len(authority) :]
    host, port = _host_and_port(authority)
    return WebAddress(
        scheme[1].lower(), host, port, _sent(target if target.startswith("/") else f"/{target}")
    )


def _host_and_port(authority: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise ImageError("bad_url", "holds a user name or password")
    match = _AUTHORITY.fullmatch(authority)
    if not match or (match[2] and not 0 < int(match[2]) < 65536):
        raise ImageError("bad_url", f"{authority[:100]!r} is no host with a port" if authority else "no host")
    return _host(match[1]), int(match[2]) if match[2] else None


def _host(text: str) -> str:
    if text.startswith("["):
        return text[1:-1].lower()
    try:
        host = text.lower() if text.isascii() else str(URL.build(scheme="http", host=text).raw_host)
    except ValueError:
        host = ""
    if not _HOST.fullmatch(host):
        raise ImageError("bad_url", f"{text[:100]!r} is no name of a host")
    return host


def _sent(target: str) -> str:
    """Path and query with what is invalid percent-encoded, and nothing else changed."""
    try:
        data = target.encode("utf-8", "surrogateescape")  # headers keep bytes that are not UTF-8 this way
    except UnicodeEncodeError as error:
        raise ImageError("bad_url", "holds half a character") from error
    return _VALID_OR_BYTE.sub(lambda match: match[1] or b"%%%02X" % match[2][0], data).decode()
