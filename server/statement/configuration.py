"""What the statement tells of settings and of security."""

from typing import Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from profiles import audit_event
from profiles.audit_event import Subtype
from server import bcp195
from server.settings import Device, Settings
from server.statement.markdown import code, listed, table

# What is not about DICOM is in the README.
_ELSEWHERE: Final = frozenset({"data", "database_url", "blob_url", "log_level", "max_message_bytes", "language", "organization"})
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


def device() -> str:
    """What is configured of a peer."""
    return _fields(Device)


def _fields(model: type[BaseModel]) -> str:
    return table(
        ("Field", "Default", "What"),
        ((code(name), _default(field.default), _sentence(field.description or "")) for name, field in model.model_fields.items()),
    )


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
