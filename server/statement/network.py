"""What the statement tells of the DICOM network services."""

from collections.abc import Iterator, Mapping
from typing import Final

from ihe.dimse import CommandField
from profiles import storage_commitment
from profiles.query_retrieve import MAX_LISTED, MAX_LISTED_ABOVE, MODELS, PATIENT_ROOT, STUDY_ROOT, UNIQUE_KEYS
from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from server import association
from server.association import Limits
from server.edges.dimse import find, inquiry, managed, negotiation, port, retrieval
from server.edges.dimse.reception import PROCESSING_FAILURE
from server.edges.dimse.service import Service
from server.edges.dimse.services import SERVICES
from server.errors import (
    AccessError,
    Busy,
    Conflict,
    ContentConflict,
    ImageShareError,
    InstanceMismatch,
    MalformedInstance,
    NotSupported,
    PatientConflict,
    RejectedInstance,
    StepEnded,
    StorageFull,
    TooLarge,
    Unavailable,
    WrongAttributes,
)
from server.outbound import calling, delivery, retrieve
from server.records.comparing import MOST_UIDS
from server.settings import Settings
from server.statement.markdown import attribute, code, listed, status, table, tagged, uid_name

# What a store can end with, by C-STORE and by STOW-RS
STORE_ERRORS: Final[tuple[type[ImageShareError], ...]] = (
    MalformedInstance, InstanceMismatch, PatientConflict, ContentConflict, RejectedInstance, NotSupported, TooLarge, StorageFull, Busy,
    Unavailable, ImageShareError,
)  # fmt: skip
_RETRIEVED: Final = (
    inquiry.SUCCESS, inquiry.PENDING, inquiry.CANCELLED, inquiry.SOME_FAILED, inquiry.UNABLE_TO_SEND, inquiry.OUT_OF_RESOURCES,
    inquiry.IDENTIFIER_REFUSED, inquiry.UNABLE_TO_PROCESS,
)  # fmt: skip
_SEARCHED: Final = (
    inquiry.SUCCESS, inquiry.PENDING, inquiry.CANCELLED, inquiry.OUT_OF_RESOURCES, inquiry.IDENTIFIER_REFUSED,
    inquiry.UNABLE_TO_PROCESS,
)  # fmt: skip
# PS3.4 tables C.5.1-1, C.5.2-1 and C.5.3-1: the bytes of the application information
_NEGOTIATED: Final[Mapping[int, tuple[str, ...]]] = {
    CommandField.C_FIND_RQ: (
        "relational queries", "combined matching of dates and times", "fuzzy matching of person names", "timezone query adjustment",
        "enhanced multi-frame image conversion",
    ),
    CommandField.C_MOVE_RQ: ("relational retrieval", "enhanced multi-frame image conversion"),
    CommandField.C_GET_RQ: ("relational retrieval", "enhanced multi-frame image conversion"),
}  # fmt: skip
_FOUND = "`imageshare find`"
_USED: Final = (
    (calling.VERIFICATION, "`imageshare peer echo CT1`"),
    (STUDY_ROOT.find, _FOUND),
    (PATIENT_ROOT.find, f"{_FOUND} at the level PATIENT"),
    (STUDY_ROOT.move, "`imageshare move`"),
    (STUDY_ROOT.get, "`imageshare get`"),
    (storage_commitment.PUSH_MODEL, "`imageshare send` with `--commit`; and, as SCP, to report what a peer has asked for"),
)
_STORAGE: Final = "Every Storage SOP Class (annex A.1)"


def network_overview() -> str:
    """PS3.2 annex N, overview of the network services: SOP Class by SOP Class, as user and as provider."""
    used = {uid for uid, _ in _USED}
    rows: list[tuple[object, ...]] = [("Storage (C-STORE)", _STORAGE, "", "yes", "yes")]
    for service in SERVICES:
        rows += [
            (service.name, uid_name(uid), code(uid), "yes" if uid in used else "", "yes")
            for uid in sorted(service.abstract_syntaxes)
        ]
    return table(("Service", "SOP Class", "UID", "SCU", "SCP"), rows)


def implementation() -> str:
    """PS3.7 annex D.3.3.2: how this implementation identifies itself."""
    return table(
        ("Item", "Value"),
        (
            ("Implementation Class UID", code(IMPLEMENTATION_CLASS_UID)),
            ("Implementation Version Name", code(IMPLEMENTATION_VERSION_NAME)),
            ("Application Context Name", code("1.2.840.10008.3.1.1.1")),
        ),
    )


def associations() -> str:
    """PS3.8: what bounds an association."""
    default, limits = _default, Limits()
    return table(
        ("What", "Value"),
        (
            ("Maximum length of a P-DATA-TF that is told to peers", f"{association.MAX_LENGTH:,} bytes"),
            ("Longest P-DATA-TF that is taken nevertheless", f"{association.TOLERATED:,} bytes"),
            ("Longest Command Set, and longest Data Set of a request without image", f"{association.MAX_COMMAND:,} and {association.MAX_DATA_SET:,} bytes"),
            ("Longest instance", f"{default('max_instance_bytes'):,} bytes (`IMAGESHARE_MAX_INSTANCE_BYTES`)"),
            ("Associations accepted at once, of all peers", f"{default('max_associations')} (`IMAGESHARE_MAX_ASSOCIATIONS`)"),
            ("of one AE title at one address", f"{default('max_associations_per_device')} (`IMAGESHARE_MAX_ASSOCIATIONS_PER_DEVICE`)"),
            ("Operations that an acceptor's peer may have outstanding (asynchronous window)", f"invoked: {negotiation.WINDOW} if it asks, else 1; performed: 1; answers keep the order"),
            ("The same, as we ask for it when we send", f"invoked: {delivery.WINDOW}; performed: 1; as many as the peer grants are used"),
            ("ARTIM: to request an association, and to close after one", f"{port.ARTIM:g} s"),
            ("Silence of a peer until A-ABORT", f"{default('association_idle'):g} s (`IMAGESHARE_ASSOCIATION_IDLE`)"),
            ("Slowest that a message may come", f"{limits.slowest:,} bytes a second, after that time"),
            ("Age of an association until A-ABORT", f"{default('association_seconds'):g} s (`IMAGESHARE_ASSOCIATION_SECONDS`)"),
            ("Addresses", "IPv4 and IPv6"),
        ),
    )  # fmt: skip


def _default(name: str) -> object:
    return Settings.model_fields[name].default


def rejections() -> str:
    """PS3.8 table 9-21: why an association is rejected."""
    return table(
        ("Result", "Source", "Reason", "When"),
        ((each.answer.result, each.answer.source, each.answer.reason, each.words) for each in negotiation.REJECTIONS),
    )


def accepted_contexts() -> str:
    """PS3.7 annex D.3: presentation contexts that are accepted."""
    return table(
        ("Abstract syntax", "Transfer syntaxes", "Role of the peer", "Needs permission", "Requests"),
        (
            (
                _STORAGE, "every one of annex A.2; the first that the peer proposes", "SCU with `store`; SCP, if proposed, with `retrieve`",
                "`store` or `retrieve`", code("C_STORE_RQ"),
            ),
            *(
                (
                    f"{uid_name(uid)} {code(uid)}", listed(service.transfer_syntaxes), "SCU, or SCP if proposed" if service.requestor_may_be_scp else "SCU",
                    code(service.permission) or "none", listed(CommandField(field).name for field in service.commands),
                )
                for service in SERVICES
                for uid in sorted(service.abstract_syntaxes)
            ),
        ),
    )  # fmt: skip


def identifier_syntaxes() -> str:
    """The transfer syntaxes of Identifiers and other Data Sets without image, by name."""
    ordered = dict.fromkeys(uid for service in SERVICES for uid in service.transfer_syntaxes)
    return table(("Transfer syntax", "UID"), ((uid_name(uid), code(uid)) for uid in ordered))


def extended_negotiation() -> str:
    """PS3.7 annex D.3.3.5: what is agreed to when a peer asks for all of it."""
    return table(("SOP Classes", "Item", "Agreed"), (row for service in SERVICES for row in _negotiated(service)))


def _negotiated(service: Service) -> Iterator[tuple[str, str, str]]:
    sop_class = min(service.abstract_syntaxes)
    names = next((_NEGOTIATED[field] for field in service.commands if field in _NEGOTIATED), ())
    answer = service.extended(sop_class, b"\1" * len(names)) or b""
    for name, agreed in zip(names, answer, strict=False):
        yield service.name, name, "yes" if agreed else "no"


def proposed_contexts() -> str:
    """What is proposed as requestor."""
    uncompressed, received = listed(calling.SYNTAXES), retrieve.storage_contexts(["1.2"])
    return table(
        ("Abstract syntax", "Transfer syntaxes", "Our role", "For"),
        (
            ("the SOP Classes of what is sent", "one context for each that the files have", "SCU", "`imageshare send`"),
            (
                "the SOP Classes of what is sent",
                f"one context for each that the instances have; one with {uncompressed}, for what the peer does not take as it is",
                "SCU", "C-STORE sub-operations of C-MOVE",
            ),
            (
                "the SOP Classes of what is retrieved", listed(uid for context in received for uid in context.transfer_syntaxes), "SCP",
                "C-STORE sub-operations of `imageshare get`",
            ),
            *((f"{uid_name(uid)} {code(uid)}", uncompressed, _role(uid), what) for uid, what in _USED),
        ),
    )  # fmt: skip


def _role(uid: str) -> str:
    return "SCU; SCP to report" if uid == storage_commitment.PUSH_MODEL else "SCU"


def models() -> str:
    """PS3.4 section C.3: information models, levels and unique keys."""
    return table(
        ("Model", "C-FIND", "C-MOVE", "C-GET", "Levels, each with its unique key"),
        (
            (
                model.name, code(model.find), code(model.move), code(model.get),
                ", ".join(f"{level} ({attribute(UNIQUE_KEYS[level])})" for level in model.levels),
            )
            for model in MODELS
        ),
    )  # fmt: skip


def query_limits() -> str:
    """What bounds a query or a retrieve."""
    return table(
        ("What", "Value"),
        (
            ("Matches of one C-FIND; beyond it " + status(inquiry.OUT_OF_RESOURCES), f"{find.MOST_MATCHES:,}"),
            ("UIDs in a list of C-FIND; beyond it " + status(inquiry.IDENTIFIER_REFUSED), f"{MOST_UIDS:,}"),
            ("UIDs in a list of C-MOVE or C-GET, at the level of the request", f"{MAX_LISTED:,}"),
            ("and at levels above it", f"{MAX_LISTED_ABOVE:,}"),
            ("Time between pending responses of C-MOVE and C-GET", f"{retrieval.EVERY:g} s"),
        ),
    )


# --- statuses


def store_statuses() -> str:
    """PS3.4 table B.2-1: statuses of C-STORE."""
    return table(("Status", "Meaning"), (("`0000`", "stored, or stored before with the same bytes"), *_errors(STORE_ERRORS)))


def _errors(classes: tuple[type[ImageShareError], ...]) -> Iterator[tuple[str, str]]:
    for number in dict.fromkeys(each.dimse_status for each in classes):
        yield status(number), "; ".join(dict.fromkeys(each.summary for each in classes if each.dimse_status == number))


def query_statuses() -> str:
    """PS3.4 tables C.4-1 to C.4-3 and K.4-1: statuses of C-FIND, C-MOVE and C-GET."""
    found = {
        "C-FIND": {*_SEARCHED, inquiry.PENDING_UNSUPPORTED},
        "C-MOVE": {*_RETRIEVED, inquiry.DESTINATION_UNKNOWN},
        "C-GET": set(_RETRIEVED),
        "C-FIND of worklists": set(_SEARCHED),
    }
    return table(
        ("Status", "Meaning", *found),
        ((status(number), words, *("yes" if number in some else "" for some in found.values())) for number, words in inquiry.STATUSES.items()),
    )  # fmt: skip


def managed_statuses() -> str:
    """PS3.7 annex C: statuses of the N-services."""
    wrong = ", ".join(map(status, (0x0106, 0x0120, 0x0121)))
    ended = f"{StepEnded.summary} (Error ID {status(StepEnded.error_id)})"
    return table(
        ("Status", "Meaning"),
        (
            *((status(number), words) for number, words in managed.STATUSES.items()),
            (wrong, f"{WrongAttributes.summary}; Attribute Identifier List names it"),
            (status(Conflict.dimse_status), "there is a SOP Instance of this UID already"),
            (status(StepEnded.dimse_status), ended),
        ),
    )


def general_statuses() -> str:
    """PS3.7 annex C: what any service may answer."""
    return table(
        ("Status", "Meaning"),
        (
            (status(PROCESSING_FAILURE), ImageShareError.summary),
            (status(AccessError.dimse_status), AccessError.summary),
            ("`0211`", "this operation is not offered for this SOP Class"),
        ),
    )


def commitment_reasons() -> str:
    """PS3.3 section C.14.1.1: why an instance is not committed."""
    return table(
        ("Failure Reason " + tagged("00081197"), "Meaning"),
        ((status(number), words) for number, words in storage_commitment.REASONS.items()),
    )
