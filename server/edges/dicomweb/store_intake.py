"""A Store request's body on its way in: each PS3.10 instance judged by itself, as it streams (PS3.18 section 10.5.1).

The methods block. At most one part is open at a time, and of it only what the writer holds.
"""

from typing import Final, Protocol

from ihe.multipart import Event, MultipartError, PartData, PartEnd, PartStart, media_type
from profiles.vocabulary import DICOM
from server.edges.dicomweb.store_response import Failure, Outcome
from server.errors import ImageShareError, MalformedBody, Unavailable, UnsupportedMediaType
from server.store.blobs import Writer
from server.work.ingest import Announced, Batch, Pending, Receipt

_TOGETHER: Final = 16
"""How many instances of a request wait for one commit."""
_NAMELESS: Final = 100
"""Parts of one request that may be refused without having told which instance they are: each is an entry in the trail."""

Named = tuple[str, str]
"""SOP Class and SOP Instance UID of an instance; empty where they are not known."""
_UNKNOWN: Final[Named] = ("", "")


class Parts(Protocol):
    """What tells a body's parts apart: `ihe.multipart.Splitter`, or `Whole`."""

    def feed(self, data: bytes) -> list[Event]: ...
    def close(self) -> None: ...


class Whole:
    """A body without multipart: one part of the media type `type`, which ends with it."""

    def __init__(self, type: str = DICOM) -> None:
        self._type = type
        self._begun = False

    def feed(self, data: bytes) -> list[Event]:
        if not data:
            return []
        events: list[Event] = [] if self._begun else [PartStart({"content-type": self._type})]
        self._begun = True
        return [*events, PartData(memoryview(data))]

    def close(self) -> None:
        return None


class Intake:
    """The parts of one request into a batch; `begin`, `take` and `end` are those of a kind of part."""

    def __init__(self, batch: Batch, parts: Parts, announced: Announced) -> None:
        self._batch = batch
        self._parts = parts
        self._announced = announced
        self._open = False
        self._pending: list[tuple[Pending, Named]] = []
        self._receipts: list[Receipt] = []
        self._failures: list[Failure] = []

    def feed(self, data: bytes) -> None:
        """Raises `MalformedBody` where the body is not multipart; parts that were complete before stay stored."""
        try:
            for event in self._parts.feed(data):
                match event:
                    case PartStart():
                        self._open = True
                        self.begin(event)
                    case PartData():
                        self.take(event.data)
                    case PartEnd():
                        self._open = False
                        self.end()
        except MultipartError as error:
            raise self._malformed(str(error)) from None

    def finish(self, data: bytes) -> None:
        """The last piece. Raises `MalformedBody` also where the closing boundary is missing or there was no part."""
        self.feed(data)
        try:
            self._parts.close()
        except MultipartError as error:
            raise self._malformed(str(error)) from None
        if self._open:
            self.end()
        self.complete()
        if not self._receipts and not self._failures:
            raise self._malformed("the body has no parts")

    def cut_off(self) -> None:
        """The client is gone in the middle of the body."""
        self._malformed("the connection was closed before the end of the body")

    def outcome(self) -> Outcome:
        """Raises the reason where nothing could be stored for want of room or time: then the whole request may be repeated."""
        if not self._receipts and all(isinstance(failure.error, Unavailable) for failure in self._failures):
            raise self._failures[0].error
        return Outcome(self._receipts, self._failures)

    def begin(self, part: PartStart) -> None:
        raise NotImplementedError

    def take(self, data: memoryview) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def complete(self) -> None:
        """All parts are there."""
        self.settle()

    def store(self, writer: Writer, named: Named = _UNKNOWN) -> None:
        """An instance that is written, and its UIDs where they are known already; some of them go into one commit."""
        self._pending.append((self._batch.submit(writer, self._announced, ahead=True), named))
        if len(self._pending) >= _TOGETHER:
            self.settle()
            self._tolerate()

    def settle(self) -> None:
        """Stores what ended and waits for a commit; called before anything else is told."""
        pending, self._pending = self._pending, []
        for one, named in pending:
            try:
                self._receipts.append(one.receipt())
            except ImageShareError as error:
                found = (one.instance.sop_class_uid, one.instance.sop_instance_uid) if one.instance else named
                self._failures.append(Failure(error, *found))

    def abort(self) -> None:
        """Leaves nothing of an unfinished part; what was complete before it stays."""
        self.settle()

    def _refused(self, error: ImageShareError, named: Named = _UNKNOWN) -> None:
        self.settle()
        self._batch.refused(error, self._announced)
        self._failures.append(Failure(error, *named))
        self._tolerate()

    def _tolerate(self) -> None:
        if sum(not failure.sop_instance_uid for failure in self._failures) > _NAMELESS:
            raise self._malformed(f"more than {_NAMELESS} parts are no instances")

    def _malformed(self, why: str) -> MalformedBody:
        self.settle()
        stored = len(self._receipts)
        error = MalformedBody(
            f"{why}; {stored} complete instance{'' if stored == 1 else 's'} before that stored" if stored else why
        )
        self._batch.refused(error, self._announced)
        return error


class BinaryIntake(Intake):
    """Parts that are PS3.10 files. Some go into one commit; how one part fares is nothing to the others."""

    _writer: Writer | None = None

    def begin(self, part: PartStart) -> None:
        try:
            if media_type(part.content_type or DICOM).type != DICOM:
                raise UnsupportedMediaType(f"a part has another type than {DICOM}")
            self._writer = self._batch.receive()
        except ImageShareError as error:
            self._refused(error)

    def take(self, data: memoryview) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(data)
        except ImageShareError as error:
            # The writer is aborted; the rest of this part is read and dropped.
            self._writer = None
            self._refused(error)

    def end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self.store(writer)

    def abort(self) -> None:
        super().abort()
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
