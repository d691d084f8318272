"""STOW-RS (PS3.18 section 10.5; IHE RAD-108): instances as they stream in, each judged by itself.

The body passes in pieces of about a megabyte: a piece is split into parts and written in a worker thread while the next one
arrives. Nothing else is held, whatever the size of an instance or of the request.
"""

import contextlib
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ihe.multipart import MultipartError, PartData, PartEnd, PartStart, Splitter, boundary_of, media_type
from profiles import part10
from profiles.audit_event import RAD_108
from profiles.identifiers import InvalidIdentifier, lenient_uid
from profiles.part10 import HeaderError
from server.access.decisions import Decision, Interaction
from server.edges import context
from server.edges.dicomweb import store_response, targets
from server.edges.dicomweb.answers import answering_async
from server.edges.dicomweb.store_response import Failure, Outcome
from server.errors import Forbidden, ImageShareError, MalformedBody, MalformedInstance, Unavailable, UnsupportedMediaType
from server.store.blobs import Writer
from server.work.ingest import Announced, Batch, Receipt, Sender
from server.work.retrieve import STUDY_TYPE

_PIECE = 1 << 20
_DICOM = "application/dicom"


@answering_async("create", RAD_108)
async def store(request: Request) -> Response:
    """PS3.18 section 10.5: Store Instances. 200 all stored, 202 some, 409 none; 400 a body that is cut off or not multipart."""
    decision = await run_in_threadpool(_permitted, request)
    study = targets.uid(request, "study")
    content_type = store_response.media_type(request)
    intake = _Intake(_batch(request, decision), _boundary(request), Announced(study_instance_uid=study))
    waiting = bytearray()
    try:
        async for data in request.stream():
            waiting += data
            if len(waiting) >= _PIECE:
                piece, waiting = bytes(waiting), bytearray()
                await run_in_threadpool(intake.feed, piece)
        await run_in_threadpool(intake.finish, bytes(waiting))
    except ClientDisconnect:
        await run_in_threadpool(intake.cut_off)
        raise
    finally:
        await run_in_threadpool(intake.abort)
    return store_response.answer(intake.outcome(), targets.base(request), study, content_type)


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
        )
    )


def _boundary(request: Request) -> bytes:
    """PS3.18 section 10.5.1.3: multipart/related of application/dicom; metadata with bulk data is not taken yet."""
    told = request.headers.get("content-type", "")
    parsed = media_type(told)
    if parsed.type != "multipart/related" or parsed.parameters.get("type", _DICOM).strip().lower() != _DICOM:
        raise UnsupportedMediaType(f'instances are stored as multipart/related; type="{_DICOM}"')
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("the body of a store request must not be compressed (no Content-Encoding)")
    try:
        return boundary_of(told)
    except MultipartError as error:
        raise MalformedBody(str(error)) from None


class _Intake:
    """One request's body on its way into a batch; its methods block. At most one part is open at a time."""

    def __init__(self, batch: Batch, boundary: bytes, announced: Announced) -> None:
        self._batch = batch
        self._splitter = Splitter(boundary)
        self._announced = announced
        self._writer: Writer | None = None
        self._receipts: list[Receipt] = []
        self._failures: list[Failure] = []

    def feed(self, data: bytes) -> None:
        """Raises `MalformedBody` where the body is not multipart; parts that were complete before stay stored."""
        try:
            for event in self._splitter.feed(data):
                match event:
                    case PartStart():
                        self._start(event)
                    case PartData():
                        self._write(event.data)
                    case PartEnd():
                        self._end()
        except MultipartError as error:
            raise self._malformed(str(error)) from None

    def finish(self, data: bytes) -> None:
        """The last piece. Raises `MalformedBody` also where the closing boundary is missing or there was no part."""
        self.feed(data)
        try:
            self._splitter.close()
        except MultipartError as error:
            raise self._malformed(str(error)) from None
        if not self._receipts and not self._failures:
            raise self._malformed("the body has no parts")

    def cut_off(self) -> None:
        """The client is gone in the middle of the body."""
        self._malformed("the connection was closed before the end of the body")

    def abort(self) -> None:
        """Leaves nothing of an unfinished part."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def outcome(self) -> Outcome:
        """Raises the reason where nothing could be stored for want of room or time: then the whole request may be repeated."""
        if not self._receipts and all(isinstance(failure.error, Unavailable) for failure in self._failures):
            raise self._failures[0].error
        return Outcome(self._receipts, self._failures)

    def _start(self, part: PartStart) -> None:
        try:
            if media_type(part.content_type or _DICOM).type != _DICOM:
                raise UnsupportedMediaType(f"a part has another type than {_DICOM}")
            self._writer = self._batch.receive()
        except ImageShareError as error:
            self._refused(error)

    def _write(self, data: memoryview) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(data)
        except ImageShareError as error:
            # The writer is aborted; the rest of this part is read and dropped.
            self._writer = None
            self._refused(error)

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        # What store refuses is deleted; an open file still has its bytes, to tell which instance it was.
        with contextlib.closing(writer.reader()) as bytes_of_it:
            try:
                self._receipts.append(self._batch.store(writer, self._announced))
            except ImageShareError as error:
                named = ("", "") if isinstance(error, MalformedInstance) else _named(bytes_of_it)
                self._failures.append(Failure(error, *named))

    def _refused(self, error: ImageShareError) -> None:
        self._batch.refused(error, self._announced)
        self._failures.append(Failure(error))

    def _malformed(self, why: str) -> MalformedBody:
        stored = len(self._receipts)
        error = MalformedBody(
            f"{why}; {stored} complete instance{'' if stored == 1 else 's'} before that stored" if stored else why
        )
        self._batch.refused(error, self._announced)
        return error


def _named(file: BinaryIO) -> tuple[str, str]:
    """SOP Class UID and SOP Instance UID of a refused instance, both or none."""
    try:
        dataset = part10.parse(file).dataset
        return _uid(part10.stored(dataset, 0x00080016)), _uid(part10.stored(dataset, 0x00080018))
    except (HeaderError, InvalidIdentifier):
        return "", ""


def _uid(element: object) -> str:
    value = getattr(element, "value", None)
    return lenient_uid(value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else "")
