"""Kinds of values: identifiers, addresses of networks, URLs. What is refused is said in words that never repeat the value."""

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from profiles.identifiers import InvalidIdentifier, ae_title, uid
from profiles.smart.scopes import parse_scope, words_of

AeTitle = Annotated[str, AfterValidator(ae_title)]

_WEB: Final = ("http", "https")


def _oid(value: str) -> str:
    try:
        return uid(value)
    except InvalidIdentifier:
        raise ValueError("an OID: numbers without leading zeros, joined by dots, at most 64 characters") from None


def _scopes(value: str) -> str:
    for number, word in enumerate(words_of(value), 1):
        if parse_scope(word) is None:
            raise ValueError(f"word {number} is no SMART scope for resources; take one like system/*.rs or user/ImagingStudy.rs")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("an address, or a network in CIDR form, such as 10.1.2.0/24") from None
    return value


def _web_address(value: str) -> str:
    return checked_url(value, _WEB, "https://pacs.example.org/xds")


def _web_address_or_none(value: str) -> str:
    return value and _web_address(value)


def without_password(value: str) -> str:
    """RFC 3986 section 3.2.1: a URL has no user information. Raises `ValueError` for one that has."""
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError("a URL with a user name or password in it is not taken, because addresses are shown; take these out")
    return value


def checked_url(value: str, schemes: tuple[str, ...], example: str) -> str:
    """`value` as a URL of one of these schemes, with a host. Raises `ValueError` in words that have nothing of it: it may hold a password."""
    without_password(value)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not value.isprintable() or " " in value or "#" in value:
        raise ValueError(f"a URL of {' or '.join(schemes)} with a host, such as {example}")
    return value


Oid = Annotated[str, AfterValidator(_oid)]
Scopes = Annotated[str, AfterValidator(_scopes)]
"""SMART scopes for resources, space between them: one with a slip in it would open nothing without a word."""
Network = Annotated[str, AfterValidator(_network)]
"""An address, or a network in CIDR form."""
WebAddress = Annotated[str, AfterValidator(_web_address)]
"""An http or https URL (RFC 3986) without user name and password: settings are shown, and so are addresses in the trail."""
MaybeWebAddress = Annotated[str, AfterValidator(_web_address_or_none)]
"""The same, or empty."""
Issuer = Annotated[str, AfterValidator(without_password)]
"""Who issues tokens or assertions, as these name it: mostly a URL."""


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as settings are written: without zone, and IPv4 where it is IPv4 within IPv6 (RFC 4291 section 2.5.5.2)."""
    host = ipaddress.ip_address(address.partition("%")[0])
    return (host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None) or host


def bracketed(host: str) -> str:
    """RFC 3986 section 3.2.2: an IPv6 address goes in brackets."""
    return f"[{host}]" if ":" in host else host


def is_local_name(authority: str) -> bool:
    """Whether the host of `host:port` is this machine whoever resolves it: `localhost` or a loopback address."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
