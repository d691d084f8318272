"""What C-FIND, C-MOVE and C-GET begin with: their Identifier, what was negotiated for it, who asks, and how they are refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ihe.dimse import RESPONSE, Command
from profiles.audit_event import REFUSED, Agent, AuditedEntity, Kind, Subtype
from profiles.part10 import HeaderError
from profiles.query_identifier import Identifier, read
from profiles.query_retrieve import IdentifierRefused, Model, model_of
from profiles.vocabulary import DICOM_UID_SYSTEM
from server import telemetry
from server.access.decisions import Decision, everything
from server.edges.dimse.service import Association, Message
from server.errors import AccessError, ImageShareError, StorageFull, TooLarge, Unavailable

# PS3.4 tables C.4-1 to C.4-3
SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_UNSUPPORTED: Final = 0xFF01
CANCELLED: Final = 0xFE00
OUT_OF_RESOURCES: Final = 0xA700
IDENTIFIER_REFUSED: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC000
UNABLE_TO_SEND: Final = 0xA702
DESTINATION_UNKNOWN: Final = 0xA801
SOME_FAILED: Final = 0xB000
STATUSES: Final[Mapping[int, str]] = {
    SUCCESS: "success: the last match was sent, or every sub-operation is done",
    PENDING: "pending: a match with all that was asked for, or sub-operations go on",
    PENDING_UNSUPPORTED: "pending: a match; a key is not supported and matched everything, or is not returned",
    CANCELLED: "cancelled by C-CANCEL",
    OUT_OF_RESOURCES: "refused: more matches than are given at once, no room, or too busy",
    UNABLE_TO_SEND: "refused: every sub-operation has failed",
    DESTINATION_UNKNOWN: "refused: the Move Destination is not a peer that can be called",
    IDENTIFIER_REFUSED: "the Identifier is not one of this SOP Class; Offending Element names what is wrong",
    SOME_FAILED: "warning: at least one sub-operation has failed, or has a warning",
    UNABLE_TO_PROCESS: "unable to process",
}
"""What each of them says here."""

_RELATIONAL = 0
_DATE_TIME = 1
_FUZZY = 2


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request as it is understood: who asks by which model for what. The three flags were agreed to by extended negotiation."""

    identifier: Identifier
    model: Model
    decision: Decision
    relational: bool = False
    date_time: bool = False
    fuzzy: bool = False


def agreed_query(_sop_class: str, asked: bytes) -> bytes:
    """PS3.4 section C.5.1.1: relational queries, combined dates and times, fuzzy person names; no timezones, no image conversion."""
    return bytes(value == 1 and place in (_RELATIONAL, _DATE_TIME, _FUZZY) for place, value in enumerate(asked[:5]))


def agreed_retrieval(_sop_class: str, asked: bytes) -> bytes:
    """PS3.4 sections C.5.2.1 and C.5.3.1: relational retrieval; no image conversion."""
    return bytes(value == 1 and place == _RELATIONAL for place, value in enumerate(asked[:2]))


def understood(association: Association, message: Message) -> Inquiry:
    """The request with its Identifier decoded. Raises `IdentifierRefused` for one that cannot be."""
    sop_class = message.context.abstract_syntax
    try:
        identifier = read(message.data_set, message.context.transfer_syntax)
    except HeaderError as error:
        raise IdentifierRefused(str(error), *([] if error.tag is None else [f"{error.tag:08X}"])) from None
    granted = association.extended.get(sop_class, b"").ljust(3, b"\0")
    return Inquiry(
        identifier, model_of(sop_class), everything(association.calling), granted[_RELATIONAL] == 1, granted[_DATE_TIME] == 1,
        granted[_FUZZY] == 1,
    )  # fmt: skip


def response(message: Message, status: int, *, comment: str = "", tags: tuple[int, ...] = ()) -> Command:
    """The response to a request of this service."""
    return Command(
        field=message.command.field | RESPONSE, responded_to=message.command.message_id, status=status,
        affected_sop_class_uid=message.context.abstract_syntax, error_comment=comment, offending_elements=tags,
    )  # fmt: skip


def refuse(
    association: Association, message: Message, error: ImageShareError | IdentifierRefused, kind: Kind, subtype: Subtype
) -> None:
    """PS3.4 tables C.4-1 to C.4-3: the final response to what cannot be done, with what was wrong with it; into the trail if denied."""
    status, comment = UNABLE_TO_PROCESS, ""
    tags: tuple[int, ...] = ()
    if isinstance(error, IdentifierRefused):
        status, comment, tags = IDENTIFIER_REFUSED, str(error), error.tags
    elif isinstance(error, StorageFull | TooLarge | Unavailable):
        status, comment = OUT_OF_RESOURCES, error.short
    else:
        comment = error.short
        if isinstance(error, AccessError):
            status = error.dimse_status
            denied(association, kind, subtype, error.detail, asked(message))
    telemetry.log().warning(
        "query_refused", door="dimse", ae_title=association.calling, status=f"{status:04X}", request_id=association.request_id,
        **telemetry.failure(error),
    )  # fmt: skip
    association.respond(message.context, response(message, status, comment=_line(comment), tags=tags))


def _line(text: str) -> str:
    """Error Comment (0000,0902) has 64 characters: what is before the citation, else before the first comma or semicolon."""
    for shorter in (text, text.partition(" (PS3")[0], text.partition(";")[0], text.partition(",")[0]):
        if len(shorter) <= 64:
            return shorter
    return text[:64]


def told(
    association: Association,
    kind: Kind,
    subtype: Subtype,
    patients: Iterable[str],
    entities: tuple[AuditedEntity, ...],
) -> None:
    """PS3.15 section A.5.3: puts a disclosure into the trail before it happens; one event per patient, or one without if there is none.

    `patients` are resource ids.
    """
    trail = association.node.trail
    action = trail.action(kind, subtype, client(association), rest=False, entities=entities, request_id=association.request_id)
    trail.write(action, patients=sorted(set(patients)))


def denied(association: Association, kind: Kind, subtype: Subtype, reason: str, entities: tuple[AuditedEntity, ...]) -> None:
    """Puts a refusal into the trail, in words that have nothing of the patient's."""
    trail = association.node.trail
    trail.write(
        trail.action(
            kind, subtype, client(association), rest=False, outcome=REFUSED, outcome_desc=reason,
            entities=entities, request_id=association.request_id,
        )
    )  # fmt: skip


def asked(message: Message) -> tuple[AuditedEntity, ...]:
    """PS3.15 table A.5.3.10-1: the query as it was sent, its SOP Class and its Transfer Syntax."""
    return (
        AuditedEntity(
            system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{message.context.abstract_syntax}", query=message.data_set,
            details=(("TransferSyntax", message.context.transfer_syntax),),
        ),
    )  # fmt: skip


def client(association: Association) -> Agent:
    """The peer, as the trail names it."""
    return Agent(identifier=association.calling, address=association.address)
