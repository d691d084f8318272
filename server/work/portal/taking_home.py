"""What goes beside the File-set of a study that somebody takes home: pictures, documents and reports, for a page that shows them without a server.

Names are those of "Web Content" on media (IHE RAD TF-2 section 4.47.4.1.2.3.2): `INDEX.HTM` and `README.TXT`, and all that they lead to in `IHE_PDI`.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection

from profiles.frames import FrameTable
from profiles.kinds import kind
from server.errors import Busy, ImageShareError, NotFound
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work.file_set import Beside
from server.work.portal import pictures, reports
from server.work.portal.reading import Reader
from server.work.portal.reports import Report
from server.work.portal.studies import SeenSeries, SeenStudy
from server.work.render import Renderer
from server.work.retrieve import part10

PAGE, README, FOLDER = "INDEX.HTM", "README.TXT", "IHE_PDI"
_MOST_PICTURES: Final = 500
"""Of a study. Of one with more every second, third, ... image is there; all of them are in the File-set."""
_LARGEST_DOCUMENT: Final = 64 << 20
_SIZE, _QUALITY = 1024, 85
_WAITS: Final = (0.5, 2.0, 8.0)
"""Seconds between tries while everybody wants pictures."""
_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
_ENDINGS: Final = {
    "application/pdf": "PDF",
    "text/plain": "TXT",
    "image/jpeg": "JPG",
    "image/png": "PNG",
    "text/xml": "XML",
    "application/xml": "XML",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture to be made: frame `number` (from 1) of an instance."""

    instance: StoredInstance
    number: int
    table: bytes | None


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be shown of a series: `frames`, every `step`th of its images, or documents."""

    series: SeenSeries
    frames: tuple[Frame, ...]
    documents: tuple[StoredInstance, ...]
    step: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is of a series: paths in the archive, in order."""

    series: SeenSeries
    pictures: tuple[str, ...]
    documents: tuple[str, ...]
    step: int


@dataclass(frozen=True, slots=True)
class Told:
    """A report, and the paths of what is attached to it, with titles."""

    report: Report
    forms: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """Something that is attached to a report, as a file."""

    name: str
    title: str
    content: bytes


Page = Callable[[Sequence[Shown], Sequence[Told]], bytes]


def parts(connection: Connection, study: SeenStudy, instances: Sequence[StoredInstance]) -> tuple[Part, ...]:
    """What is to be shown of these instances of a study, series by series."""
    step = max(1, -(-study.images // _MOST_PICTURES))
    return tuple(
        _part(connection, series, [each for each in instances if each.series_uid == series.uid], step) for series in study.series
    )


def _part(connection: Connection, series: SeenSeries, instances: Sequence[StoredInstance], step: int) -> Part:
    frames = list[Frame]()
    for each in instances:
        if kind(each.sop_class, each.transfer_syntax, each.frames) == "image":
            table = catalogue.frame_table(connection, each.pk)
            frames += (Frame(each, number, table) for number in range(1, each.frames + 1))
    documents = tuple(each for each in instances if each.sop_class == _PDF and each.size <= _LARGEST_DOCUMENT)
    return Part(series, tuple(frames[::step]), documents, step)


def told(
    connection: Connection, reader: Reader, study: SeenStudy, blobs: BlobStore, base: str
) -> tuple[tuple[Report, tuple[Attached, ...]], ...]:
    """The reports of a study with what is attached to them, as far as it is here."""
    found = reports.of_study(connection, reader.decision, study)
    return tuple(
        (each, tuple(_forms(connection, reader, study, each, number, blobs, base))) for number, each in enumerate(found, 1)
    )


def _forms(
    connection: Connection, reader: Reader, study: SeenStudy, report: Report, number: int, blobs: BlobStore, base: str
) -> Iterator[Attached]:
    for form in report.forms:
        try:
            content, media_type = reports.attached(
                connection, reader.decision, study, report.type, report.id, form.number, blobs, base
            )
        except NotFound:
            continue
        if ending := _ENDINGS.get(media_type.partition(";")[0]):
            yield Attached(f"{FOLDER}/R{number:03}_{form.number + 1:02}.{ending}", form.title, content)


def beside(
    blobs: BlobStore, renderer: Renderer, wanted: Sequence[Part], said: Sequence[tuple[Report, Sequence[Attached]]], page: Page
) -> Iterator[Beside]:
    """The files, each made when its turn comes; the page last, for it names what could be made. `page` makes it."""
    listed = list[Told]()
    for report, forms in said:
        for form in forms:
            yield Beside.of(form.name, form.content)
        listed.append(Told(report, tuple((form.name, form.title) for form in forms)))
    shown = list[Shown]()
    for number, part in enumerate(wanted, 1):
        shots, documents = list[str](), list[str]()
        for path, content in _pictures(blobs, renderer, part, f"{FOLDER}/S{number:03}"):
            yield Beside.of(path, content)
            shots.append(path)
        for path, content in _documents(blobs, part, f"{FOLDER}/S{number:03}"):
            yield Beside.of(path, content)
            documents.append(path)
        shown.append(Shown(part.series, tuple(shots), tuple(documents), part.step))
    yield Beside.of(PAGE, page(shown, listed))


def _pictures(blobs: BlobStore, renderer: Renderer, part: Part, folder: str) -> Iterator[tuple[str, bytes]]:
    for number, frame in enumerate(part.frames, 1):
        if (made := _jpeg(blobs, renderer, frame)) is not None:
            yield f"{folder}/P{number:04}.JPG", made


def _jpeg(blobs: BlobStore, renderer: Renderer, frame: Frame) -> bytes | None:
    """None for pixels that cannot be decoded: they are in the File-set all the same."""
    table = FrameTable.from_bytes(frame.table) if frame.table is not None else None
    for wait in (*_WAITS, None):
        try:
            with blobs.open(frame.instance.blob_id) as file:
                return renderer.cine(file, pictures.wish(table, _SIZE, _QUALITY), [frame.number], table, frame.instance.blob_id)
        except Busy:
            if wait is None:
                return None
            time.sleep(wait)
        except ImageShareError:
            return None
    return None


def _documents(blobs: BlobStore, part: Part, folder: str) -> Iterator[tuple[str, bytes]]:
    for number, instance in enumerate(part.documents, 1):
        try:
            found = pydicom.dcmread(io.BytesIO(b"".join(part10(blobs, instance))))
        except InvalidDicomError:
            continue
        content = bytes(found.get("EncapsulatedDocument", b""))[: found.get("EncapsulatedDocumentLength") or None]
        if content.startswith(b"%PDF-"):
            yield f"{folder}/D{number:04}.PDF", content
