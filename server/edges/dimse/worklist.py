"""Modality worklist (PS3.4 annex K, IHE RAD-5): C-FIND over the Scheduled Procedure Steps."""

from typing import Final

from ihe.dimse import CommandField
from profiles.audit_event import RAD_5
from profiles.part10 import HeaderError
from profiles.query_identifier import Identifier, Projection, read
from profiles.query_retrieve import IdentifierRefused
from server.edges.dimse import inquiry
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError, MalformedQuery
from server.records import item_values, worklist
from server.records.worklist import Step

MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"


def find(association: Association, message: Message) -> None:
    """PS3.4 section K.4.1.3: a pending response for each Scheduled Procedure Step that matches, then the final one."""
    try:
        try:
            wanted = read(message.data_set, message.context.transfer_syntax)
        except HeaderError as error:
            raise IdentifierRefused(str(error), *([] if error.tag is None else [f"{error.tag:08X}"])) from None
        status = _answer(association, message, wanted)
    except MalformedQuery as error:
        inquiry.refuse(association, message, IdentifierRefused(error.detail), "query", RAD_5)
        return
    except (ImageShareError, IdentifierRefused) as error:
        inquiry.refuse(association, message, error, "query", RAD_5)
        return
    association.respond(message.context, inquiry.response(message, status))


def _answer(association: Association, message: Message, wanted: Identifier) -> int:
    """Sends the matches and returns the final status. What a page has is in the trail before its first match is sent."""
    projection = Projection(wanted.keys, wanted.character_set, message.context.transfer_syntax)
    known: frozenset[str] | None = None
    for page in worklist.find(association.node.database, wanted):
        patients = _patients(association, page)
        if known is None or patients - known:
            inquiry.told(association, "query", RAD_5, patients - (known or frozenset()), inquiry.asked(message))
            known = (known or frozenset()) | patients
        for step in page:
            if association.cancelled(message.command.message_id or 0):
                return inquiry.CANCELLED
            association.respond(message.context, inquiry.response(message, inquiry.PENDING), projection.write(step.item))
    return inquiry.SUCCESS


def _patients(association: Association, page: list[Step]) -> frozenset[str]:
    """Those of a page that the catalogue knows, by resource id; one whose first study is still to be made has none."""
    node = association.node
    domains = node.installation.domains(node.settings, association.device.assigning_authority)
    with node.database.read() as connection:
        return item_values.patients(connection, (step.item for step in page), domains)


SERVICE = Service(
    name="Modality Worklist Information Model - FIND",
    permission="worklist",
    abstract_syntaxes=frozenset({MODALITY_WORKLIST}),
    commands={CommandField.C_FIND_RQ: find},
)
