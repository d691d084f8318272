"""The services of the DICOM port, a row each. C-STORE is not among them: it streams (`reception`) and takes any Storage SOP Class."""

from collections.abc import Mapping

from ihe.dimse import Command, CommandField
from server.edges.dimse import commitment, find, get, move, mpps, worklist
from server.edges.dimse.service import Association, Message, Service

_SUCCESS = 0x0000


def echo(association: Association, message: Message) -> None:
    """PS3.7 section 9.1.5 and PS3.4 annex A: C-ECHO."""
    response = Command(
        field=CommandField.C_ECHO_RSP,
        responded_to=message.command.message_id,
        affected_sop_class_uid=message.command.affected_sop_class_uid,
        status=_SUCCESS,
    )
    association.respond(message.context, response)


VERIFICATION = Service(
    name="Verification",
    permission="",
    abstract_syntaxes=frozenset({"1.2.840.10008.1.1"}),
    commands={CommandField.C_ECHO_RQ: echo},
)

SERVICES: tuple[Service, ...] = (
    VERIFICATION,
    find.SERVICE,
    move.SERVICE,
    get.SERVICE,
    worklist.SERVICE,
    mpps.PERFORMED,
    mpps.RETRIEVE,
    commitment.SERVICE,
)

BY_ABSTRACT_SYNTAX: Mapping[str, Service] = {uid: service for service in SERVICES for uid in service.abstract_syntaxes}
