"""Correcting a study and its patient: PATCH with attributes in the DICOM JSON Model, as archives offer it (PS3.18 has no such transaction).

PATCH /studies/{study}    {"00080050": {"vr": "SH", "Value": ["A2"]}}    what the study says of itself
PATCH /studies/{study}    {"00100020": {"vr": "LO", "Value": ["P2"]}}    the study is that patient's
PATCH /studies/{study}    {"00100010": {"vr": "PN", ...}}                name, birth date, sex: in every study of the patient
"""

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_UPDATE
from profiles.correction import CannotCorrect, checked, text
from profiles.dicom_json import Attributes
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from profiles.study import Patient
from server.access.decisions import Interaction
from server.edges import context
from server.edges.dicomweb.answers import answering_async
from server.edges.dicomweb.delete import permitted, reconciler, target
from server.errors import MalformedBody, TooLarge
from server.records import catalogue
from server.work.corrections import PATIENT_TAGS, Corrector
from server.work.reconcile import Actor

_MOST = 1 << 20


@answering_async("update", REST_UPDATE)
async def correct(request: Request) -> Response:
    """204 when every face says what the body says. Patient and study are corrected one after the other."""
    actor = await run_in_threadpool(permitted, request, Interaction.UPDATE)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST:
            raise TooLarge("a correction has at most 1 MiB")
    await run_in_threadpool(_correct, request, body, actor)
    return Response(status_code=204)


def _correct(request: Request, body: bytes, actor: Actor) -> None:
    try:
        attributes = checked(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise MalformedBody("the body is no JSON") from None
    except CannotCorrect as error:
        raise MalformedBody(str(error)) from None
    if {"00100024", "0020000D"} & attributes.keys():
        raise MalformedBody("a study keeps its UID; an issuer is given by Issuer of Patient ID (0010,0021)")
    node, study = context.node(request), target(request).study_uid
    corrector = Corrector(reconciler(request), node.database, node.blobs, node.installation.patients.oid)
    own = {tag: value for tag, value in attributes.items() if tag not in PATIENT_TAGS}
    if "00100020" in attributes:
        corrector.move_study(study, _patient(request, attributes), actor=actor)
    elif patient := {tag: value for tag, value in attributes.items() if tag in PATIENT_TAGS}:
        with node.database.read() as connection:
            id_ = catalogue.patient_id(connection, catalogue.patient_pk(connection, catalogue.study_pk(connection, study)))
        corrector.update_patient(id_, patient, actor=actor)
    if own:
        corrector.correct_study(study, own, actor=actor)


def _patient(request: Request, attributes: Attributes) -> Patient:
    """Whom the body names; what it says besides counts where nobody of that identifier is known."""
    node = context.node(request)
    said = {tag: text(value) for tag, value in attributes.items()}
    authority = node.installation.domains(node.settings).authority(said.get("00100021", ""), "", "")
    try:
        identifier = PatientIdentifier(said["00100020"], authority)
    except InvalidIdentifier as error:
        raise MalformedBody(str(error)) from None
    return Patient(identifier, said.get("00100010", ""), said.get("00100030", ""), said.get("00100040", ""))
