"""STOW-RS (PS3.18 section 10.5; IHE RAD-108): instances as they stream in, each judged by itself.

The body passes in pieces of about a megabyte: a piece is split into parts and written in a worker thread while the next one
arrives. Nothing else is held, whatever the size of an instance or of the request.
"""

from dataclasses import replace
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ihe.multipart import MultipartError, Splitter, boundary_of, media_type
from profiles.audit_event import RAD_108
from profiles.vocabulary import DICOM, DICOM_JSON, DICOM_XML
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.dicomweb import store_response, targets
from server.edges.dicomweb.answers import answering_async
from server.edges.dicomweb.store_intake import BinaryIntake, Intake, Whole
from server.edges.dicomweb.store_metadata import METADATA, MetadataIntake
from server.edges.dicomweb.store_response import Outcome
from server.errors import Forbidden, MalformedBody, UnsupportedMediaType
from server.records import corrections
from server.work.ingest import Announced, Batch, Sender
from server.work.retrieve import STUDY_TYPE

_TAKEN: Final = (
    f'instances are stored as multipart/related with type="{DICOM}", as {DICOM}, '
    f'or as metadata with bulk data: type="{DICOM_JSON}" or "{DICOM_XML}"'
)


@answering_async("create", RAD_108)
async def store(request: Request) -> Response:
    """PS3.18 section 10.5: Store Instances. 200 all stored, 202 some, 409 none; 400 a body that is cut off or not multipart."""
    decision = await run_in_threadpool(_permitted, request)
    study = targets.uid(request, "study")
    content_type = store_response.media_type(request)
    intake = _intake(request, _batch(request, decision), Announced(study_instance_uid=study))
    try:
        await context.fed(request, intake.feed, intake.finish)
    except ClientDisconnect:
        await run_in_threadpool(intake.cut_off)
        raise
    finally:
        await run_in_threadpool(intake.abort)
    outcome = await run_in_threadpool(_compared, request, intake.outcome())
    return store_response.answer(outcome, targets.base(request), study, content_type)


def _compared(request: Request, outcome: Outcome) -> Outcome:
    """PS3.4 section B.4.1.3: which studies were corrected here, so that what came for them is corrected as well."""
    with context.node(request).database.read() as connection:
        coerced = corrections.corrected(connection, {receipt.study_instance_uid for receipt in outcome.receipts})
    return replace(outcome, coerced=coerced)


def _permitted(request: Request) -> Decision:
    decision = context.decision(request)
    decision.require(STUDY_TYPE, Interaction.CREATE)
    if decision.patients(STUDY_TYPE, Interaction.CREATE) is not None:
        raise Forbidden("a token that is bound to one patient may not store instances: use a system/ or user/ scope")
    return decision


def _batch(request: Request, decision: Decision) -> Batch:
    return context.node(request).ingest.batch(
        Sender(
            RAD_108,
            decision.subject,
            context.address(request),
            rest=True,
            request_id=context.request_id(request),
            token_id=decision.token_id,
            who=context.client(request),
        )
    )


def _intake(request: Request, batch: Batch, announced: Announced) -> Intake:
    """PS3.18 section 10.5.1.3: what the body is, from its Content-Type. Raises `UnsupportedMediaType` or `MalformedBody`."""
    told = request.headers.get("content-type", "")
    parsed = media_type(told)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("the body of a store request must not be compressed (no Content-Encoding)")
    if parsed.type == DICOM:
        return BinaryIntake(batch, Whole(), announced)
    if parsed.type in METADATA:
        # Metadata alone, with every value in place.
        return MetadataIntake(batch, Whole(parsed.type), announced)
    inner = parsed.parameters.get("type", DICOM).strip().lower()
    if parsed.type != "multipart/related" or inner not in METADATA | {DICOM}:
        raise UnsupportedMediaType(_TAKEN)
    try:
        splitter = Splitter(boundary_of(told))
    except MultipartError as error:
        raise MalformedBody(str(error)) from None
    return (BinaryIntake if inner == DICOM else MetadataIntake)(batch, splitter, announced)
