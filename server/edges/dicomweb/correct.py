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
from profiles.correction import CannotCorrect, checked
from server.access.decisions import Interaction
from server.edges import context
from server.edges.dicomweb.answers import answering_async
from server.edges.dicomweb.delete import permitted, reconciler, target
from server.errors import Forbidden, MalformedBody, TooLarge
from server.records import catalogue
from server.work.corrections import PATIENT_TAGS, Corrector
from server.work.reconcile import Actor
from server.work.retrieve import STUDY_TYPE

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
    if PATIENT_TAGS & attributes.keys() and "00100020" not in attributes:
        _require_all_of_patient(request)
    node = context.node(request)
    corrector = Corrector(reconciler(request), node.database, node.blobs, node.installation.patients.oid)
    corrector.correct(target(request).study_uid, attributes, node.installation.domains(node.settings), actor=actor)


def _require_all_of_patient(request: Request) -> None:
    """Raises `Forbidden` for a patient of whom consents keep something from the caller: her name is corrected in every study."""
    decision, uid = context.decision(request), target(request).study_uid
    if decision.is_by_patient(STUDY_TYPE, Interaction.UPDATE):
        return
    with context.reading(request) as connection:
        patient = catalogue.study_patient(connection, uid)
        if not decision.sees_whose(connection, STUDY_TYPE, Interaction.UPDATE, patient):
            why = "this corrects all studies of the patient, and the token may not be for all of them"
            raise Forbidden(why, frozenset([patient]))
