"""What C-MOVE and C-GET have in common: what a request names, the trail, and the sub-operations' counts (PS3.4 sections C.4.2, C.4.3)."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from sqlalchemy import ColumnElement, and_, or_

from ihe.dimse import Command
from profiles.audit_event import INSTANCES_TRANSFERRED, AuditedEntity
from profiles.query_identifier import Key, Projection
from profiles.query_retrieve import Selection, selection
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.access.decisions import Interaction
from server.edges.dimse import inquiry
from server.edges.dimse.service import Association, Message
from server.outbound.delivery import Payload
from server.outbound.statuses import is_warning
from server.records import catalogue
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore
from server.work import transcode
from server.work.retrieve import STUDY_TYPE

EVERY: Final = 0.5
"""Seconds between pending responses, where there are sub-operations to tell of."""

_FAILED_UIDS = "00080058"
_MOST_COUNTED = 0xFFFF
_LONGEST_LIST = 0xFFFE
_LENGTH_ENDS = 144


def selected(association: Association, message: Message) -> tuple[Selection, list[StoredInstance]]:
    """PS3.4 sections C.4.2.2.1 and C.4.3.2.1: the published instances that a request names and its sender may have.

    Raises `IdentifierRefused` and `ImageShareError`.
    """
    asked = inquiry.understood(association, message)
    wanted = selection(asked.identifier, asked.model, relational=asked.relational)
    asked.decision.require(STUDY_TYPE, Interaction.READ)
    allowed = asked.decision.studies_where(Interaction.READ)
    if wanted.patient is not None and wanted.issuer:
        allowed = and_(allowed, _issued_by(association, wanted.issuer))
    with association.node.database.read() as connection:
        return wanted, catalogue.under(
            connection, allowed, patient=wanted.patient, studies=wanted.studies, series=wanted.series, uids=wanted.instances
        )


def _issued_by(association: Association, issuer: str) -> ColumnElement[bool]:
    """PS3.3 section C.7.1.1: two authorities may give out one Patient ID; this is the one of that name, or whose OID it is."""
    node = association.node
    authority = node.installation.domains(node.settings).authority(issuer, "", "")
    return or_(catalogue.PATIENT.c.authority == authority.oid, catalogue.PATIENT.c.namespace == issuer)


def told(association: Association, instances: Sequence[StoredInstance], destination: str) -> None:
    """PS3.15 section A.5.3.7, before the first byte: for each patient and study, how many instances go to which AE title."""
    counts = Counter((each.patient, each.study_uid) for each in instances)
    trail = association.node.trail
    trail.write(
        *(
            trail.action(
                "read", INSTANCES_TRANSFERRED, inquiry.client(association), rest=False, patient_id=patient,
                entities=(_study(study, count, destination),), request_id=association.request_id,
            )
            for (patient, study), count in sorted(counts.items())
        )
    )  # fmt: skip


def _study(uid: str, count: int, destination: str) -> AuditedEntity:
    details = (("instances", str(count)), ("destination", destination))
    return AuditedEntity(system=DICOM_UID_SYSTEM, identifier=f"urn:oid:{uid}", details=details)


@dataclass(slots=True)
class Progress:
    """The sub-operations of one request: settles them one by one and tells the requestor."""

    association: Association
    message: Message
    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)
    reason: str = ""
    _told: float = field(default_factory=time.monotonic)

    def settle(self, instance: StoredInstance, status: int | None, reason: str = "") -> None:
        """One sub-operation is over; `status` is that of its C-STORE response, None where there is none."""
        self.remaining -= 1
        if status == 0:
            self.completed += 1
        elif status is not None and is_warning(status):
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(instance.uid)
            self.reason = self.reason or reason
        self.pend()

    def pend(self) -> None:
        """A pending response, if the last is some time ago."""
        if self.remaining and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self.association.respond(self.message.context, self._response(inquiry.PENDING))

    @property
    def cancelled(self) -> bool:
        return self.association.cancelled(self.message.command.message_id or 0)

    def finish(self, *, cancelled: bool = False) -> None:
        """PS3.4 tables C.4-2 and C.4-3: the final response, with the UIDs of what has failed."""
        if cancelled:
            status = inquiry.CANCELLED
        elif self.failed and not self.completed and not self.warning:
            status = inquiry.UNABLE_TO_SEND
        else:
            status = inquiry.SOME_FAILED if self.failed or self.warning else inquiry.SUCCESS
        data_set = self._failures() if self.failed_uids else None
        self.association.respond(self.message.context, self._response(status), data_set)

    def _response(self, status: int) -> Command:
        told = inquiry.response(self.message, status, comment=self.reason if status not in (0, inquiry.PENDING) else "")
        return replace(
            told,
            remaining=_counted(self.remaining) if status in (inquiry.PENDING, inquiry.CANCELLED) else None,
            completed=_counted(self.completed),
            failed=_counted(self.failed),
            warning=_counted(self.warning),
        )

    def _failures(self) -> bytes:
        """PS3.4 section C.4.2.1.4.2: Failed SOP Instance UID List, as many as its length allows."""
        uids: list[object] = []
        length = 0
        for uid in self.failed_uids:
            length += len(uid) + 1
            if length > _LONGEST_LIST:
                break
            uids.append(uid)
        projection = Projection((Key(_FAILED_UIDS, "UI"),), (), self.message.context.transfer_syntax)
        return projection.write({_FAILED_UIDS: {"vr": "UI", "Value": uids}})


class Transcoding:
    """How instances are sent to a peer that does not take them as they are stored (`outbound.transfer.Transcoder`)."""

    def acceptable(self, instance: StoredInstance, wanted: Sequence[str]) -> str | None:
        return transcode.acceptable(instance.transfer_syntax, wanted, pixels=instance.frames > 0)

    def data_set(self, blobs: BlobStore, instance: StoredInstance, syntax: str) -> Payload:
        _, pieces = transcode.transcoded(blobs, instance, syntax)
        return _headless(pieces)


TRANSCODER: Final = Transcoding()


def _headless(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A Part 10 file without what is before its Data Set: PS3.10 section 7.1, 144 bytes to the end of the group's length, then the group."""
    begun = b""
    for piece in pieces:
        begun += piece
        if len(begun) >= _LENGTH_ENDS:
            break
    left = _LENGTH_ENDS + int.from_bytes(begun[_LENGTH_ENDS - 4 : _LENGTH_ENDS], "little")
    for piece in chain([begun], pieces):
        if left < len(piece):
            yield piece[left:]
        left = max(0, left - len(piece))


def _counted(number: int) -> int:
    return min(number, _MOST_COUNTED)
