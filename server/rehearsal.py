"""Loads what `imageshare serve` loads of files that settings name, by the same functions, so that `imageshare doctor` finds what would stop it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from server import files, roles
from server.access import assertions
from server.access.partners import Partners
from server.edges import dimse, mllp
from server.edges.soap import schemas
from server.errors import SettingsError
from server.outbound import calling
from server.outbound.audit_repository import AuditRepository
from server.outbound.partners import tls_context
from server.outbound.web import Web
from server.records.peers import Peer
from server.settings import Settings
from server.work.registry.domain import affinity_domain_codes

Rehearsed = tuple[str, str, bool]
"""What, what came of it, and whether it works."""
_ANYBODY: Final = "https://partner.example"


def rehearsed(settings: Settings) -> Iterator[Rehearsed]:
    """A row for each thing that settings name and that has to be loaded; none for what is not set."""
    for family, port, load in (
        ("http", settings.http_tls_certificate, partial(roles.https_context, settings)),
        ("dicom", settings.dicom_tls_port, partial(dimse.tls_context, settings)),
        ("mllp", settings.mllp_tls_port, partial(mllp.tls_context, settings)),
    ):
        if port is not None:
            yield _secure_port(settings, family, load)
    yield from _callers(settings)
    yield from _called(settings)
    if settings.affinity_domain_codes is not None:
        yield _tried("code set of the affinity domain", "can be read", partial(affinity_domain_codes, settings))
    if settings.soap_schemas is not None:
        yield _tried("schemas of SOAP messages", "all there", partial(schemas.require, settings))


def _secure_port(settings: Settings, family: str, load: Callable[[], object]) -> Rehearsed:
    name, setting = f"{family.upper()} over TLS", f"{family}_tls_certificate"
    row = _tried(name, "", load)
    certificate = getattr(settings, setting)
    return _good_until(name, certificate, setting) if row[2] and certificate is not None else row


def _good_until(name: str, path: Path, setting: str) -> Rehearsed:
    """How long this server's own certificate holds; one that is over is shown by a server that runs, and taken by nobody."""
    own = files.certificates((path,), setting)[0]
    until, now = own.not_valid_after_utc, datetime.now(UTC)
    if now > until:
        return name, f"{setting}: the certificate was good until {until:%Y-%m-%d}; put a new one in its place", False
    if now < own.not_valid_before_utc:
        return name, f"{setting}: the certificate is not good before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC", False
    return name, f"the certificate is good until {until:%Y-%m-%d}", True


def _callers(settings: Settings) -> Iterator[Rehearsed]:
    """Who is known by a certificate, each by itself, then all together."""
    found = []
    for each in settings.partners:
        alone = settings.model_copy(update={"partners": (each,)})
        found.append(_tried(f"partner {each.name}", _count(each.certificates), partial(Partners, alone)))
    if all(fine for *_, fine in found) and settings.partners:
        whole = _tried("partners together", "", partial(Partners, settings))
        found += [] if whole[2] else [whole]
    yield from found
    for sender in settings.hl7_peers:
        one = settings.model_copy(update={"hl7_peers": (sender,)})
        yield _tried(f"sender of HL7 v2 {sender.name}", _count(sender.certificates), partial(mllp.Senders, one))
    for issuer in settings.trusted_assertions:
        only = settings.model_copy(update={"trusted_assertions": (issuer,)})
        yield _tried(f"assertions of {issuer.issuer}", _count(issuer.certificates), partial(assertions.issuers, only))


def _called(settings: Settings) -> Iterator[Rehearsed]:
    """With whom this server speaks TLS as a client."""
    fine = "can be spoken"
    if settings.http_tls_ca is not None or settings.http_tls_certificate is not None:
        yield _tried("TLS to partners", fine, partial(tls_context, settings, _ANYBODY))
    if settings.dicom_tls_ca is not None or settings.dicom_tls_certificate is not None:
        peer = Peer("ANY", tls="on")
        yield _tried("TLS to DICOM peers", fine, partial(calling.tls_context, peer, settings))
    for each in settings.communities:
        if each.ca is not None or each.certificate is not None:
            yield _tried(f"TLS to {each.name}", fine, partial(tls_context, settings, each.registry, each))
    if settings.audit_repository:
        yield _tried("TLS to the audit repository", fine, partial(AuditRepository, settings))
    if settings.fetch_ca is not None:
        yield _tried("servers that are fetched from", fine, partial(Web, settings))


def _tried(name: str, fine: str, load: Callable[[], object]) -> Rehearsed:
    try:
        load()
    except SettingsError as error:
        return name, error.detail, False
    return name, fine, True


def _count(certificates: tuple[Path, ...]) -> str:
    return f"known by the certificates of {len(certificates)} files" if certificates else "not known by a certificate"
