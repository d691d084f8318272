"""Finding what may be sent, and its bytes. DICOMweb, RAD-69 and ITI-43 all pass here, so all decide alike."""

import os
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from profiles.frames import FrameTable
from server.access.decisions import OTHER_PATIENT, Decision, Interaction, Unseen
from server.errors import Forbidden, ImageShareError, NotFound, Unavailable
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore, Extent

_NO_PREAMBLE = bytes(128)
STUDY_TYPE = "ImagingStudy"
"""Images are judged as the ImagingStudy that they belong to (SMART Imaging Access)."""
_NO_PART = "no such series or instance in this study"
IN_PART = "a part of this study is withheld: ask for its series one by one"


def locate(
    connection: Connection,
    decision: Decision,
    study_uid: str,
    series_uid: str | None = None,
    sop_uid: str | None = None,
    *,
    partly: bool = False,
) -> list[StoredInstance]:
    """The instances under a study, series or instance, all of them or none; `partly`: of a study those of the series that may be told of.

    Raises `NotFound` where nothing is published under these UIDs, `Forbidden` as `require_study` does, and for a whole study that is
    withheld in part (SMART Imaging Access: it is denied, not trimmed).
    """
    found = catalogue.instances(connection, study_uid, series_uid, sop_uid)
    if not found:
        require_study(connection, decision, Interaction.READ, study_uid)
        raise NotFound(_NO_PART)
    patient = found[0].patient
    decision.require_some(STUDY_TYPE, Interaction.READ, frozenset([patient]))
    if decision.sees_study(connection, Interaction.READ, study_uid, series_uid):
        return found
    seen = decision.seen_series(connection, Interaction.READ, study_uid) if series_uid is None else frozenset[str]()
    if seen and not partly:
        raise Forbidden(IN_PART, frozenset([patient]))
    if not seen:
        raise hidden(connection, decision, Interaction.READ, study_uid, series_uid, patient)
    return [each for each in found if each.series_uid in seen]


def require_study(connection: Connection, decision: Decision, interaction: Interaction, study_uid: str) -> None:
    """Raises `Forbidden` where a study is not the caller's, and `NotFound` where there is none and the caller may see every patient.

    UIDs are no secret, so who is confined to a patient is told the same of a stranger's study and of none.
    """
    try:
        owner = catalogue.study_patient(connection, study_uid)
    except NotFound:
        decision.require(STUDY_TYPE, interaction)
        if decision.is_limited(STUDY_TYPE, interaction):
            require_arrived(connection, decision, interaction, study_uid)
            raise Forbidden(OTHER_PATIENT) from None
        raise
    decision.require_some(STUDY_TYPE, interaction, frozenset([owner]))
    if not decision.sees_study(connection, interaction, study_uid) and not decision.seen_series(
        connection, interaction, study_uid
    ):
        raise hidden(connection, decision, interaction, study_uid, None, owner)


def hidden(
    connection: Connection, decision: Decision, interaction: Interaction, study_uid: str, series_uid: str | None, patient: str
) -> ImageShareError:
    """The error for a study, or a series of it, that the caller may not know of: as for one that is not there."""
    if series_uid is not None and decision.seen_series(connection, interaction, study_uid):
        return Unseen(_NO_PART, frozenset([patient]))
    return decision.unseen(STUDY_TYPE, interaction, patient, "no such study")


def require_arrived(connection: Connection, decision: Decision, interaction: Interaction, study_uid: str) -> None:
    """Raises `Unavailable` where a study of a patient to whom the caller is confined has begun to arrive and is not shown yet.

    Of other patients' studies nothing is told, nor of one from whose records consents keep something. Who may see every patient asks for what there is, and is not kept waiting.
    """
    own = None if decision.studies is not None else decision.some_of(STUDY_TYPE, interaction)
    patient = catalogue.arriving_patient(connection, study_uid) if own else None
    if own and patient in own and decision.sees_whose(connection, STUDY_TYPE, interaction, patient):
        raise Unavailable("this study is arriving just now; send the same request again in a few seconds")


def visible(connection: Connection, decision: Decision, sop_uids: Sequence[str]) -> dict[str, StoredInstance]:
    """The instances among `sop_uids` that exist and may be seen, by UID; for protocols that answer object by object."""
    allowed = decision.some_of(STUDY_TYPE, Interaction.READ)
    found = {
        uid: instance
        for uid, instance in catalogue.by_sop_uid(connection, sop_uids).items()
        if allowed is None or instance.patient in allowed
    }
    series = {(each.study_uid, each.series_uid) for each in found.values()}
    seen = {each for each in series if decision.sees_study(connection, Interaction.READ, *each)}
    return {uid: each for uid, each in found.items() if (each.study_uid, each.series_uid) in seen}


def withheld(connection: Connection, sop_uids: Sequence[str]) -> frozenset[str]:
    """The patients (resource ids) of those of these instances that exist: for the trail, where somebody was not told of them."""
    return frozenset(each.patient for each in catalogue.by_sop_uid(connection, sop_uids).values()) if sop_uids else frozenset()


def part10(blobs: BlobStore, instance: StoredInstance) -> Iterator[bytes]:
    """The instance as a Part 10 file (PS3.10), in chunks, as `part10_pieces`."""
    for piece in part10_pieces(blobs, instance):
        yield from piece.read() if isinstance(piece, Extent) else (piece,)


def part10_pieces(blobs: BlobStore, instance: StoredInstance) -> Iterator[bytes | Extent]:
    """The instance as a Part 10 file (PS3.10), not read yet: as it was stored, but with an empty preamble.

    A preamble can make of an image a program or a script for whoever opens it as one (PS3.10 section 7.5), and has no meaning in
    DICOM; the stored bytes keep it.
    """
    return file_pieces(blobs, instance.blob_id)


def file_pieces(blobs: BlobStore, blob_id: str) -> Iterator[bytes | Extent]:
    """The same for who knows its blob alone."""
    for whole in blobs.extent(blob_id):
        if os.pread(whole.file, len(_NO_PREAMBLE), 0) == _NO_PREAMBLE:
            yield whole
        else:
            yield _NO_PREAMBLE
            yield Extent(whole.file, len(_NO_PREAMBLE), max(0, whole.count - len(_NO_PREAMBLE)))


def frame_table(connection: Connection, instance: StoredInstance) -> FrameTable:
    """Where the frames are in the stored file. Raises `NotFound` for an instance without frames that can be told apart."""
    stored = catalogue.frame_table(connection, instance.pk)
    if stored is None:
        raise NotFound("this instance has no frames that can be retrieved one by one")
    return FrameTable.from_bytes(stored)


def frame(blobs: BlobStore, instance: StoredInstance, table: FrameTable, number: int) -> Iterator[Extent]:
    """Frame `number` (from 1) as stored, in pieces that are not read yet. Raises `NotFound` beyond the last."""
    if not 1 <= number <= table.count:
        raise NotFound(f"this instance has frames 1 to {table.count}")
    for offset, length in table.ranges(number):
        yield from blobs.extent(instance.blob_id, offset, length)
