"""Partners: organizations whose systems are known by the certificate that they show in TLS (IHE ATNA, ITI TF-2 section 3.19)."""

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from profiles.smart.scopes import parse_scopes
from server import files
from server.access.consents import withheld
from server.access.decisions import Decision
from server.errors import SettingsError
from server.settings import Partner, Settings

_LONGEST: Final = 65_536
"""Characters of a certificate."""


class Partners:
    """The `partners` of the settings, by their certificates. Raises `SettingsError` for one that cannot be read, or that two have."""

    def __init__(self, settings: Settings) -> None:
        self._permits = settings.consent_default == "permit"
        self._by_certificate: dict[bytes, Partner] = {}
        for partner in settings.partners:
            setting = f"partners.{partner.name}.certificates"
            for certificate in files.certificates(partner.certificates, setting):
                if self._by_certificate.setdefault(_fingerprint(certificate), partner).name != partner.name:
                    raise SettingsError(f"{setting}: another of partners has the same certificate")

    def known(self, chain: Sequence[str]) -> Partner | None:
        """Who shows this chain (PEM, the own certificate first), which TLS has verified; None for nobody in the list."""
        if not chain or len(chain[0]) > _LONGEST:
            return None
        return self._by_certificate.get(_fingerprint(x509.load_pem_x509_certificate(chain[0].encode())))

    def decision(self, connection: Connection, partner: Partner) -> Decision:
        """The partner's Decision as long as it names no user: consents hold it as they hold somebody who is not known."""
        return _of_a_system(connection, partner.name, partner.scope, permits=self._permits)


def recipient(connection: Connection, settings: Settings, name: str) -> Decision:
    """The Decision of a partner whom this server tells of itself: everything that consents do not withhold from somebody who is not known."""
    return _of_a_system(connection, name, "system/*.rs", permits=settings.consent_default == "permit")


def _of_a_system(connection: Connection, name: str, scope: str, *, permits: bool) -> Decision:
    return Decision(
        subject=name,
        scopes=parse_scopes(scope),
        withheld=withheld(
            connection, user="", actors=frozenset(), purposes=frozenset(), patients=None, permits=permits, is_unknown=True
        ),
        writes=frozenset(),
    )  # fmt: skip


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
