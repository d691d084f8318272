"""Who may send HL7 v2 messages: a feed says who is whom, so nobody does who is not listed, or on this machine where nobody is."""

import hashlib
import ipaddress

from cryptography.hazmat.primitives.serialization import Encoding

from server import files
from server.settings import Hl7Peer, Settings, plain_address

_LOCAL = "loopback"


class Senders:
    """The `hl7_peers` of the settings. Raises `SettingsError` for a certificate that cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._peers = [
            (
                peer,
                {
                    _fingerprint(each.public_bytes(Encoding.DER))
                    for each in files.certificates(peer.certificates, f"hl7_peers.{peer.name}.certificates")
                },
            )
            for peer in settings.hl7_peers
        ]

    def may_come(self, address: str, *, secure: bool) -> bool:
        """Whether anybody who calls from there can be one of them; `secure`: it is TLS, in which they show who they are."""
        if not self._peers:
            return plain_address(address).is_loopback
        return any(_comes_from(peer, address) and (secure or not shown) for peer, shown in self._peers)

    def name(self, address: str, certificate: bytes | None) -> str | None:
        """Who calls from there with this certificate (DER, which TLS has verified); None for nobody who may."""
        if not self._peers:
            return _LOCAL if plain_address(address).is_loopback else None
        shown = _fingerprint(certificate) if certificate else b""
        fitting = [peer.name for peer, wanted in self._peers if _comes_from(peer, address) and (not wanted or shown in wanted)]
        return next(iter(fitting), None)


def _comes_from(peer: Hl7Peer, address: str) -> bool:
    return peer.address is None or plain_address(address) in ipaddress.ip_network(peer.address, strict=False)


def _fingerprint(certificate: bytes) -> bytes:
    return hashlib.sha256(certificate).digest()
