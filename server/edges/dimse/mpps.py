"""Modality Performed Procedure Step (PS3.4 annex F.7 and F.8, IHE RAD-6 and RAD-7): N-CREATE, N-SET and N-GET."""

import uuid
from typing import Final

from sqlalchemy import Connection

from ihe.dimse import CommandField
from profiles.audit_event import RAD_6, RAD_7, Kind, Subtype, dicom_objects
from profiles.dicom_json import Attributes
from profiles.identifiers import InvalidIdentifier, lenient_uid, uuid_oid
from profiles.part10 import HeaderError
from server.edges.dimse import inquiry, managed
from server.edges.dimse.service import Association, Message, Service
from server.errors import ImageShareError, WrongAttributes
from server.records import item_values, performed_steps
from server.records.performed_steps import PerformedStep

PERFORMED_STEP: Final = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"


def create(association: Association, message: Message) -> None:
    """PS3.4 section F.7.2.1: N-CREATE. A step without a SOP Instance UID is given one (PS3.7 section 10.1.5.1.4)."""
    try:
        given = message.command.affected_sop_instance_uid
        uid = _checked(given) if given else uuid_oid(uuid.uuid4())
        item = _attributes(message)
        with association.node.database.write() as connection:
            step = performed_steps.create(connection, uid, item, source=association.calling)
            _record(association, connection, "create", RAD_6, step)
    except ImageShareError as error:
        managed.refuse(association, message, error, "create", RAD_6)
        return
    association.respond(message.context, managed.response(message, managed.SUCCESS, uid=uid))


def change(association: Association, message: Message) -> None:
    """PS3.4 section F.7.2.2: N-SET, by the AE title that created the step. What may not change stays as it is, and the warning 0107H names it (PS3.7 section C.4.2)."""
    try:
        item = _attributes(message)
        with association.node.database.write() as connection:
            step, refused = performed_steps.change(
                connection, message.command.requested_sop_instance_uid, item, source=association.calling
            )
            _record(association, connection, "update", RAD_7 if step.status != performed_steps.IN_PROGRESS else RAD_6, step)
    except ImageShareError as error:
        managed.refuse(association, message, error, "update", RAD_7)
        return
    status = managed.ATTRIBUTE_LIST_ERROR if refused else managed.SUCCESS
    association.respond(message.context, managed.response(message, status, tags=refused))


def get(association: Association, message: Message) -> None:
    """PS3.4 section F.8.2.1: N-GET, in the trail before it is answered; of another's step for who may query, and so see all patients."""
    source = None if "query" in association.device.permissions else association.calling
    try:
        with association.node.database.write() as connection:
            step = performed_steps.get(connection, message.command.requested_sop_instance_uid, source=source)
            _record(association, connection, "read", RAD_6, step)
    except ImageShareError as error:
        managed.refuse(association, message, error, "read", RAD_6)
        return
    found = performed_steps.selected(step, message.command.attribute_identifiers)
    data = item_values.encoded(found, message.context.transfer_syntax)
    association.respond(message.context, managed.response(message, managed.SUCCESS), data)


def _checked(uid: str) -> str:
    try:
        return lenient_uid(uid)
    except InvalidIdentifier as error:
        raise WrongAttributes(f"Affected SOP Instance UID: {error}", managed.INVALID_OBJECT_INSTANCE) from None


def _attributes(message: Message) -> Attributes:
    try:
        return item_values.decoded(message.data_set, message.context.transfer_syntax)
    except HeaderError as error:
        raise WrongAttributes(str(error), tags=() if error.tag is None else (error.tag,)) from None


def _record(association: Association, connection: Connection, kind: Kind, subtype: Subtype, step: PerformedStep) -> None:
    """One event per patient that the catalogue knows, in the transaction that does what it tells of."""
    node = association.node
    domains = node.installation.domains(node.settings, association.device.assigning_authority)
    studies = performed_steps.study_uids(step.item)
    entities = (*dicom_objects(instance=step.uid), *(entity for uid in studies for entity in dicom_objects(study=uid)))
    node.trail.record(
        connection,
        *(
            node.trail.action(
                kind, subtype, inquiry.client(association), rest=False, patient_id=patient,
                entities=entities, request_id=association.request_id,
            )
            for patient in sorted(item_values.patients(connection, [step.item], domains)) or [""]
        ),
    )  # fmt: skip


PERFORMED = Service(
    name="Modality Performed Procedure Step",
    permission="mpps",
    abstract_syntaxes=frozenset({PERFORMED_STEP}),
    commands={CommandField.N_CREATE_RQ: create, CommandField.N_SET_RQ: change},
)
RETRIEVE = Service(
    name="Modality Performed Procedure Step Retrieve",
    permission="mpps",
    abstract_syntaxes=frozenset({PERFORMED_STEP_RETRIEVE}),
    commands={CommandField.N_GET_RQ: get},
)
