"""What the N-services have in common (PS3.7 section 10): their responses, and how they refuse."""

from collections.abc import Mapping
from typing import Final

from ihe.dimse import RESPONSE, Command
from profiles.audit_event import FAILED, REFUSED, Kind, Subtype, dicom_objects
from server import telemetry
from server.edges.dimse import inquiry
from server.edges.dimse.service import Association, Message
from server.errors import ImageShareError, NotFound, StepEnded, WrongAttributes

# PS3.7 annex C
SUCCESS = 0x0000
ATTRIBUTE_LIST_ERROR = 0x0107
NO_SUCH_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT = 0x0115
INVALID_OBJECT_INSTANCE = 0x0117
NO_SUCH_ACTION = 0x0123
RESOURCE_LIMITATION = 0x0213
STATUSES: Final[Mapping[int, str]] = {
    SUCCESS: "success",
    ATTRIBUTE_LIST_ERROR: "warning: done, but for the attributes of the Attribute Identifier List, which may not be changed",
    NO_SUCH_INSTANCE: "no such SOP Instance",
    NO_SUCH_EVENT_TYPE: "no such event type",
    INVALID_ARGUMENT: "an argument that is not valid, such as a transaction that nobody asked for",
    INVALID_OBJECT_INSTANCE: "the SOP Instance UID is not a UID",
    NO_SUCH_ACTION: "no such action",
    RESOURCE_LIMITATION: "storage commitment while `IMAGESHARE_DURABLE` is off",
}
"""What each of them says here; the others are those of `server.errors`."""


def response(
    message: Message, status: int, *, uid: str = "", comment: str = "", error_id: int | None = None, tags: tuple[int, ...] = ()
) -> Command:
    """PS3.7 section 10.3: the response to an N-request. `tags` is the Attribute Identifier List."""
    asked = message.command
    return Command(
        field=asked.field | RESPONSE,
        responded_to=asked.message_id,
        status=status,
        affected_sop_class_uid=asked.affected_sop_class_uid or asked.requested_sop_class_uid,
        affected_sop_instance_uid=uid or asked.affected_sop_instance_uid or asked.requested_sop_instance_uid,
        event_type_id=asked.event_type_id,
        action_type_id=asked.action_type_id,
        error_comment=comment,
        error_id=error_id,
        attribute_identifiers=tags,
    )


def refuse(association: Association, message: Message, error: ImageShareError, kind: Kind, subtype: Subtype) -> None:
    """PS3.7 annex C: the response to what is refused, with an entry in the trail."""
    uid = message.command.affected_sop_instance_uid or message.command.requested_sop_instance_uid
    trail = association.node.trail
    trail.write(
        trail.action(
            kind, subtype, inquiry.client(association), rest=False, outcome=FAILED if error.http_status >= 500 else REFUSED,
            outcome_desc=error.detail, entities=dicom_objects(instance=uid), request_id=association.request_id,
        )
    )  # fmt: skip
    status = NO_SUCH_INSTANCE if isinstance(error, NotFound) else error.dimse_status
    telemetry.log().warning(
        "dimse_refused", door="dimse", ae_title=association.calling, method=f"{message.command.field:04X}", status=f"{status:04X}",
        request_id=association.request_id, **telemetry.failure(error),
    )  # fmt: skip
    error_id = error.error_id if isinstance(error, StepEnded) else None
    tags = error.tags if isinstance(error, WrongAttributes) else ()
    association.respond(message.context, response(message, status, comment=error.short, error_id=error_id, tags=tags))
