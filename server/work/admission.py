"""A group of instances into the catalogue, each judged by itself: one sync per folder, one transaction for all.

What fails of one instance (a conflict, a value that the database refuses) fails only that one; what fails of the database or the disk
fails all of them. Nothing of an instance that was not admitted is in the catalogue, and its blob is the caller's to delete.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from profiles.audit_event import Agent, AuditedEntity, Subtype
from profiles.study import Instance
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.errors import Busy, ImageShareError, Unavailable
from server.records import catalogue, placing, rejections
from server.records.placing import SeriesKey
from server.records.trail import Trail
from server.store import jobs
from server.store.blobs import Blob, BlobStore, Writer
from server.store.db import Database, micros

PUBLISH = "publish"
"""Kind of the job whose key is a study's row and whose deadline is the end of its quiet period."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: the door as the trail calls it, the peer's name (AE title, client id), its address.

    `authority` is the OID that assigns its patient ids, where it is configured. `rest` is False for DICOM and SOAP.
    """

    subtype: Subtype
    name: str
    address: str
    authority: str | None = None
    rest: bool = False
    request_id: str = ""
    token_id: str = ""
    who: Agent | None = None
    """As the trail names the sender, where that is more than name and address."""
    initiated: bool = True
    """False where this server fetches from it."""
    origin: tuple[tuple[str, str], ...] = ()
    """Where its studies were fetched, as details of them in the trail."""
    believed: bool = True
    """False where patient ids are `authority`'s whatever issuer the images name: anybody may have made them."""

    @property
    def agent(self) -> Agent:
        return self.who or Agent(identifier=self.name, address=self.address)

    @property
    def source(self) -> str:
        return f"{self.subtype.code} {self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class SeriesHeader:
    """What the instances of one series in a batch have in common."""

    setting: placing.Setting
    key: SeriesKey

    @property
    def study_uid(self) -> str:
        return self.setting.study.study_instance_uid

    @property
    def series_uid(self) -> str:
        return self.setting.study.series[0].series_instance_uid


@dataclass(slots=True, eq=False)
class Incoming:
    """One instance that waits for its commit. Afterwards `error` says why it failed, or `new` whether its UID was.

    `syncing` is done once the bytes are durable, where that was begun ahead. `blob` is there once they have their final name. `told` are
    the UIDs of the studies that its batch is in the trail with.
    """

    writer: Writer
    instance: Instance
    dataset_offset: int
    series: SeriesHeader
    sender: Sender
    told: set[str]
    syncing: Future[None] | None = None
    blob: Blob | None = None
    new: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class _Outcome:
    """What a transaction would make of its group; of no account before it is committed."""

    places: dict[SeriesKey, placing.Place] = field(default_factory=dict)
    made: set[SeriesKey] = field(default_factory=set)
    """The series whose rows, or those of what they are in, were made here."""
    errors: dict[Incoming, ImageShareError] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Ids of the blobs that belong to an instance now."""
    told: list[tuple[set[str], str]] = field(default_factory=list)
    """Batches and the studies that they are in the trail with from now on."""


class _Undo(Exception):
    """Rows were made for instances that turn out to be stored elsewhere: once more without these."""

    def __init__(self, lost: set[Incoming]) -> None:
        super().__init__()
        self.lost = lost


class Admission:
    """The commit of a group; what `GroupCommit` calls."""

    def __init__(self, database: Database, blobs: BlobStore, trail: Trail, quiet_period: Callable[[], float]) -> None:
        self._database = database
        self._blobs = blobs
        self._trail = trail
        self._quiet_period = quiet_period

    def commit(self, group: Sequence[Incoming]) -> None:
        """Sets `error` or `new` of each; raises nothing that is one instance's or the database's."""
        named = self._blobs.commit([one.writer for one in group])
        safe = []
        for one, blob in zip(group, named, strict=True):
            if isinstance(blob, Blob):
                one.blob = blob
                safe.append(one)
            else:
                one.error = blob
        self._admit(safe)

    def _admit(self, group: Sequence[Incoming]) -> None:
        if not group:
            return
        try:
            self._transaction(group)
        except _Undo as undo:
            self._admit([one for one in group if one not in undo.lost])
        except Exception as error:  # noqa: BLE001 each of the group is told
            if len(group) == 1 or self._is_away(error):
                for one in group:
                    one.error = error
                return
            for one in group:  # somebody spoilt it for all
                self._admit([one])

    def _is_away(self, error: Exception) -> bool:
        """Whether the database or its disk failed, so that to try each alone would fail as often. A deadlock is worth another try."""
        if isinstance(error, Busy) and not self._database.is_sqlite:
            return not isinstance(error.__cause__, OperationalError)
        return isinstance(error, Unavailable | OperationalError | InterfaceError)

    def _transaction(self, group: Sequence[Incoming]) -> None:
        outcome = _Outcome()
        with self._database.write() as connection:
            # Rows are touched in the same order by everyone, so that two processes do not wait for each other.
            self._place(connection, sorted(group, key=lambda one: one.series.key), outcome)
            self._add(connection, sorted(group, key=lambda one: one.instance.sop_instance_uid), outcome)
            self._follow_up(connection, group, outcome)
        for one in group:
            one.error = outcome.errors.get(one)
            one.new = one.blob is not None and one.blob.id in outcome.kept
        for told, study_uid in outcome.told:
            told.add(study_uid)

    def _place(self, connection: Connection, group: Sequence[Incoming], outcome: _Outcome) -> None:
        outcome.errors.update(self._refused(connection, group))
        known = placing.known(connection, [one.series.setting for one in group])
        for one in group:
            key = one.series.key
            if one in outcome.errors or key in outcome.places:
                continue
            if key in known:
                outcome.places[key] = known[key]
                continue
            try:
                with connection.begin_nested():
                    outcome.places[key], made = placing.place(connection, one.series.setting)
            except ImageShareError as error:
                outcome.errors[one] = error
            else:
                outcome.made.update({key} if made else ())

    def _refused(self, connection: Connection, group: Sequence[Incoming]) -> dict[Incoming, ImageShareError]:
        """Those that were withdrawn here before."""
        refused = rejections.refusals(connection, [one.instance.sop_instance_uid for one in group])
        return {one: refused[uid] for one in group if (uid := one.instance.sop_instance_uid) in refused}

    def _add(self, connection: Connection, group: Sequence[Incoming], outcome: _Outcome) -> None:
        arrivals = {
            one: placing.Arrival(one.instance, one.blob, one.dataset_offset, one.sender.source)
            for one in group
            if one not in outcome.errors and one.blob is not None
        }
        outcome.kept = placing.admit(connection, [(each, outcome.places[one.series.key]) for one, each in arrivals.items()])
        filled = {one.series.key for one, each in arrivals.items() if each.blob.id in outcome.kept}
        lost = {one for one in arrivals if one.series.key in outcome.made and one.series.key not in filled}
        if lost:
            raise _Undo(lost)

    def _follow_up(self, connection: Connection, group: Sequence[Incoming], outcome: _Outcome) -> None:
        """Settling begins anew for each study; its arrival is told once per batch, with its first instance."""
        studies: dict[int, list[Incoming]] = {}
        for one in group:
            if one.blob is not None and one.blob.id in outcome.kept:
                studies.setdefault(outcome.places[one.series.key].study_pk, []).append(one)
        due = micros() + int(self._quiet_period() * 1_000_000)
        for study_pk in sorted(studies):
            jobs.enqueue(connection, PUBLISH, str(study_pk), due=due)
        for members in studies.values():
            batches = {id(one.told): one for one in reversed(members) if one.series.study_uid not in one.told}
            for one in batches.values():
                self._imported(connection, one, outcome.places[one.series.key])
                outcome.told.append((one.told, one.series.study_uid))

    def _imported(self, connection: Connection, one: Incoming, where: placing.Place) -> None:
        """One event per batch and study, in the transaction of its first instance."""
        sender, trail = one.sender, self._trail
        study = AuditedEntity(
            f"ImagingStudy/{catalogue.study_id(connection, where.study_pk)}",
            DICOM_UID_SYSTEM,
            f"urn:oid:{one.series.study_uid}",
            details=sender.origin,
        )
        trail.record(
            connection,
            trail.action(
                "create", sender.subtype, sender.agent, rest=sender.rest, patient_id=catalogue.patient_id(connection, where.patient_pk),
                entities=(study,), request_id=sender.request_id, token_id=sender.token_id, initiated=sender.initiated,
            ),
        )  # fmt: skip
