"""What the statement tells of settings and of security."""

import dataclasses
from collections.abc import Mapping
from typing import Final

from pydantic_core import PydanticUndefined

from profiles import audit_event
from profiles.audit_event import Subtype
from server import bcp195
from server.records.peers import PERMISSIONS, Peer
from server.settings import Device, Settings
from server.statement.markdown import code, listed, table

# What is not about DICOM; `imageshare doctor` shows all of them.
_ELSEWHERE: Final = frozenset({
    "data", "database_url", "blob_url", "log_level", "max_message_bytes", "max_submission_bytes", "language", "organization",
    "session_seconds", "session_idle", "sign_in_failures", "sign_in_failures_per_address", "sign_in_window", "hospital_sign_in",
    "smtp_url", "mail_from", "privacy_officer", "refresh_token_days", "client_registration", "client_registration_token", "client_registration_scope",
    "communities", "fetch_allowed_hosts", "fetch_ca", "trusted_proxies", "proxy_until_age", "mllp_host", "mllp_port", "mllp_tls_port",
    "mllp_tls_certificate", "mllp_tls_key", "mllp_tls_ca", "mllp_connections", "mllp_idle", "hl7_peers", "affinity_domain_authority",
})  # fmt: skip
# Of each field of a peer: how `imageshare peer` takes it, what it is called in `devices` (empty: not there), and what it is
_PEER: Final[Mapping[str, tuple[str, str, str]]] = {
    "ae_title": ("TITLE", "ae_title", "Its AE title, calling and called"),
    "network": ("--network", "address", "Where it associates from: an address or network such as 10.1.2.0/24; none for nowhere"),
    "host": ("HOST:PORT", "host", "Where it is called: a name or an address; none for nowhere"),
    "port": ("HOST:PORT", "port", "Where it is called"),
    "tls": ("--tls, --verify", "", "Called without TLS, with it (`on`), or with it and a certificate for its host (`verify`)"),
    "authority": ("--authority", "assigning_authority", "OID that assigns its patient ids; the installation's own where none"),
    "permissions": ("--allow", "permissions", f"Of {', '.join(PERMISSIONS)}"),
    "description": ("--description", "", "For people"),
    "active": ("change --inactive", "", "Whether it is talked with at all"),
}
# Who writes which event into the trail
_AUDITED: Final[tuple[tuple[str, Subtype], ...]] = (
    ("C-STORE; C-MOVE and C-GET; rejected associations", audit_event.INSTANCES_TRANSFERRED),
    ("C-FIND", audit_event.RAD_14),
    ("C-FIND of worklists", audit_event.RAD_5),
    ("N-CREATE, N-SET and N-GET of performed procedure steps", audit_event.RAD_6),
    ("N-SET that ends one", audit_event.RAD_7),
    ("storage commitment", audit_event.RAD_10),
    ("STOW-RS", audit_event.RAD_108),
    ("QIDO-RS", audit_event.RAD_129),
    ("WADO-RS", audit_event.RAD_107),
    ("WADO-URI", audit_event.RAD_55),
    ("UPS-RS: create", audit_event.REST_CREATE),
    ("UPS-RS: retrieve, event channel", audit_event.REST_READ),
    ("UPS-RS: search; change feed", audit_event.REST_SEARCH),
    ("UPS-RS: update, state, cancellation, subscriptions; restore, correct", audit_event.REST_UPDATE),
    ("delete, reject", audit_event.REST_DELETE),
)


def setting(name: str) -> str:
    """The default of one setting."""
    assert name in Settings.model_fields
    return str(Settings.model_fields[name].default)


def settings() -> str:
    """Every setting that DICOM and DICOMweb depend on."""
    return table(
        ("Variable", "Default", "What"),
        (
            (code(f"IMAGESHARE_{name.upper()}"), _default(field.default), _sentence(field.description or ""))
            for name, field in Settings.model_fields.items()
            if name not in _ELSEWHERE
        ),
    )


def peer() -> str:
    """What is configured of a peer, in the table and in `devices` of the settings."""
    return table(
        ("Field", "`imageshare peer`", "`devices`", "Default", "What"),
        (_of_peer(field) for field in dataclasses.fields(Peer)),
    )


def _of_peer(field: "dataclasses.Field[object]") -> tuple[str, ...]:
    """Raises `KeyError` for a field, or one of `devices`, that the table has no words for."""
    option, named, what = _PEER[field.name]
    must = named and Device.model_fields[named].is_required()
    default = "(must be given)" if field.default is dataclasses.MISSING else _default(field.default or None)
    return code(field.name), code(option), f"{code(named)}{' (must be given)' if must else ''}", default, what


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "(must be given)"
    if isinstance(value, frozenset):
        return listed(sorted(value)) or "none"
    return "none" if value is None or value in ((), {}, "") else code(value)


def tls() -> str:
    """PS3.15 annex B: Secure Transport Connection Profiles."""
    return table(
        ("`IMAGESHARE_DICOM_TLS_PROFILE`", "PS3.15 section", "Cipher suites of TLS 1.2, the most wanted first"),
        ((code(name), each.section, listed(each.suites)) for name, each in bcp195.PROFILES.items()),
    )


def audited() -> str:
    """PS3.15 annex A.5: what is written into the audit trail."""
    return table(
        ("Service", "AuditEvent.subtype", "Display", "System"),
        ((what, code(each.code), each.display, code(each.system)) for what, each in _AUDITED),
    )
