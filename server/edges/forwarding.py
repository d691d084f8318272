"""Who asks, where a reverse proxy stands before this server (RFC 7239 section 7.4 is why it has to be configured).

Anybody may send `X-Forwarded-For`. Each proxy appends who has called it, so it is read from its end, and only as long as the names are those
of proxies that we trust: the first other one is whom the last of them has seen.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from server.settings import plain_address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def caller(peer: str, forwarded: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The address of who asks. `peer` is that of the socket, `forwarded` the values of the header, `trusted` addresses and networks of proxies.

    What is no address ends the chain: then it is the proxy that said so.
    """
    if not trusted or not _is_one_of(seen := _address(peer), trusted):
        return peer
    for named in reversed(",".join(forwarded).split(",")):
        if (before := _address(named)) is None:
            break
        seen = before
        if not _is_one_of(seen, trusted):
            break
    return str(seen)


def _is_one_of(address: Address | None, trusted: tuple[str, ...]) -> bool:
    return address is not None and any(address in network for network in _networks(trusted))


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(each, strict=False) for each in trusted)


def _address(text: str) -> Address | None:
    """An address, with a port or without (RFC 7239 section 6 writes them so, and some proxies do here too); None for what is none."""
    text = text.strip()
    bare = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0] if text.count(":") == 1 else text
    try:
        return plain_address(bare)
    except ValueError:
        return None
