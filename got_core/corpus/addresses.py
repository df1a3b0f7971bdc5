"""From which network addresses pictures may be fetched.

Belongs here: the rule, and a resolver that applies it to every address it hands out, so that what was checked
is what is connected to. Does not belong here: HTTP (``fetch``).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from got_core.corpus.decode import ImageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by number, but answered by a cloud's own machinery.
_METADATA = (ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("100.100.100.200"))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def networks(names: Sequence[str]) -> tuple[Network, ...]:
    """Parsed networks. Raises ValueError for what is none."""
    return tuple(ipaddress.ip_network(name) for name in names)


def is_allowed(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address (a number, not a name) is public or in one of the allowed networks.

    Loopback, private, link-local, shared, reserved, multicast and metadata addresses are not public, nor are
    IPv6 forms of such IPv4 addresses.
    """
    try:
        address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in allowed if network.version == address.version):
        return True
    return address.is_global and not address.is_multicast and address not in _METADATA


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    return inner or address


def check_host(host: str, allowed: Sequence[Network]) -> None:
    """ImageError if the host is written as an address that is not allowed. Names are checked later."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        if last.isdigit() or last.startswith("0x"):  # 127.1, 0x7f.1: some resolvers make addresses of them
            raise ImageError("forbidden_address", f"{host} is an odd spelling of an address") from None
        return
    if not is_allowed(host, allowed):
        raise ImageError("forbidden_address", f"{host} is not a public address")


class ForbiddenAddress(OSError):
    """A name stands for an address that is not allowed."""


class PublicResolver(AbstractResolver):
    """Resolves names; a name with even one address that is not allowed is refused as a whole."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a name, all allowed. Raises ForbiddenAddress, or OSError for an unknown name."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not is_allowed(one["host"], self._allowed):
                raise ForbiddenAddress(f"{host} stands for {one['host']}, which is not a public address")
        return found

    async def close(self) -> None:
        """Nothing is held open."""
        await self._inner.close()
