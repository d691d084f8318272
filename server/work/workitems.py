"""The worklist: what may be done to workitems, by whom, and who is told (PS3.4 section CC.2, PS3.18 section 11).

Each method is one transaction: the access decision, the change, the Event Reports and the audit event stand together or not at all. A
workitem is a FHIR Task to the access decision: `c` creates, `r` reads and subscribes, `u` changes, `s` searches.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from profiles import workitem, workitem_events
from profiles.audit_event import REST_CREATE, REST_UPDATE, Kind, Subtype, dicom_objects
from profiles.identifiers import uuid_oid
from profiles.model_item import Item, text
from profiles.query_identifier import Key
from profiles.workitem import (
    CANCEL_REQUESTED,
    CANCELED,
    FILTERED,
    FINAL,
    GLOBAL,
    IN_PROGRESS,
    SCHEDULED,
    SOP_CLASS,
    SOP_INSTANCE,
    TRANSACTION,
    TRANSITIONS,
    UPS_PUSH,
    Violation,
)
from server.access.decisions import OTHER_PATIENT, Decision, Interaction
from server.errors import Forbidden, NotFound, WorkitemConflict, WrongAttributes
from server.records import workitem_subscribers as subscribers
from server.records import workitems
from server.records.installation import Installation
from server.records.item_values import identity
from server.records.trail import Trail
from server.records.workitems import Workitem
from server.settings import Settings
from server.store.db import Database, micros
from server.work.reconcile import Actor

TASK: Final = "Task"
_NOTHING = "there is no workitem of this UID"
_LABEL: Final = "Worklist"
_KEPT: Final = 30 * 86_400 * 1_000_000
"""Microseconds that ended workitems are kept without a deletion lock."""

_INCONSISTENT: Final = "The submitted request is inconsistent with the current state of the Workitem."
_NOT_CLAIMED: Final = "The target URI did not reference a claimed Workitem."
_NO_UID: Final = "The Transaction UID is missing."
_WRONG_UID: Final = "The Transaction UID is incorrect."
ALREADY: Final = "The UPS is already in the requested state of {}.".format

# What a status of table CC.2.1-2 or CC.2.2-2 says, and what to do.
_REASONS: Final = {
    0xC300: "the workitem has ended and may no longer be changed",
    0xC302: "the workitem is in progress already: somebody else has claimed it",
    0xC303: "a workitem becomes SCHEDULED only by being created",
    0xC310: "the workitem is not in progress; claim it first by changing its state to IN PROGRESS",
    0xC311: "the workitem is completed already",
}


class Worklist:
    """The worklist of one installation."""

    def __init__(self, settings: Settings, database: Database, installation: Installation, trail: Trail) -> None:
        self._database = database
        self._domains = installation.domains(settings)
        self._trail = trail

    def create(self, decision: Decision, actor: Actor, uid: str | None, item: Item) -> Workitem:
        """Section CC.2.5. `uid` is that of the request, else the item's own, else a new one. Raises `WrongAttributes` and `Conflict`."""
        named = text(item, SOP_INSTANCE)
        if uid and named and uid != named:
            raise WrongAttributes("the workitem's SOP Instance UID is not that of the URL (PS3.18 section 11.4.1)")
        if text(item, SOP_CLASS) not in ("", UPS_PUSH):
            raise WrongAttributes(f"a workitem is of SOP Class {UPS_PUSH} (PS3.4 section CC.3.1)")
        given = {tag: value for tag, value in item.items() if tag not in (SOP_CLASS, SOP_INSTANCE)}
        _require_none(workitem.creation_faults(given))
        uid = uid or named or uuid_oid(uuid.uuid4())
        made = workitem.created(given, uid, _LABEL, _now())
        with self._database.write() as connection:
            decision.require(TASK, Interaction.CREATE)
            subscribers.settle(connection, worklist=False)
            whose = identity(made, self._domains)
            decision.require_patient(TASK, Interaction.CREATE, workitems.patient_of(connection, whose))
            kept = workitems.add(connection, uid, made, whose)
            subscribers.follow(connection, uid, made)
            subscribers.publish(connection, uid, workitem_events.of_creation(made))
            self._told(connection, actor, "create", REST_CREATE, kept)
            workitems.purge(connection, micros() - _KEPT)
        return kept

    def read(self, connection: Connection, decision: Decision, uid: str) -> Workitem:
        """Section CC.2.7. Raises `Forbidden` and `NotFound`. The caller puts it into the trail."""
        return _permitted(connection, decision, Interaction.READ, uid)

    def change(self, decision: Decision, actor: Actor, uid: str, changes: Item, transaction_uid: str | None) -> None:
        """Section CC.2.6: sets attributes of a workitem; of one in progress only by who has its lock. Raises `WorkitemConflict`."""
        lock = transaction_uid or text(changes, TRANSACTION)
        given = {tag: value for tag, value in changes.items() if tag != TRANSACTION}
        with self._database.write() as connection:
            before = _permitted(connection, decision, Interaction.UPDATE, uid, for_update=True)
            _require_lock_to_change(before, lock)
            _require_none(workitem.change_faults(given, before.item))
            after = workitem.changed(before.item, given, _now())
            workitems.save(connection, before, after)
            subscribers.publish(connection, uid, workitem_events.of_change(before.item, after))
            self._told(connection, actor, "update", REST_UPDATE, before)

    def change_state(self, decision: Decision, actor: Actor, uid: str, state: str, transaction_uid: str) -> str | None:
        """Section CC.2.1. Returns a warning where the workitem is in that state already. Raises `WorkitemConflict`."""
        with self._database.write() as connection:
            before = _permitted(connection, decision, Interaction.UPDATE, uid, for_update=True)
            if not transaction_uid:
                raise WorkitemConflict("a Transaction UID (0008,1195) is needed to change the state", 0xC301, 400, _NO_UID)
            if before.transaction_uid not in ("", transaction_uid):
                raise WorkitemConflict("the Transaction UID is not that of the workitem's performer", 0xC301, 400, _WRONG_UID)
            after = TRANSITIONS.get((state, before.state))
            if after is None:
                raise WrongAttributes("the state asked for is IN PROGRESS, COMPLETED or CANCELED (PS3.18 section 11.7.1.4)")
            if isinstance(after, int):
                warning = _told_state(after, before.state)
                self._told(connection, actor, "update", REST_UPDATE, before)
                return warning
            item = workitem.in_state(before.item, after, _now())
            if after in FINAL and (lacking := workitem.unmet(item, after)):
                raise WorkitemConflict(_listed(lacking), 0xC304, 409, _INCONSISTENT)
            workitems.save(connection, before, item, transaction_uid)
            subscribers.publish(connection, uid, [workitem_events.state_report(item)])
            self._told(connection, actor, "update", REST_UPDATE, before)
        return None

    def request_cancel(self, decision: Decision, actor: Actor, uid: str, request: Item, requesting_ae: str) -> str | None:
        """Section CC.2.2: who performs it is told; what nobody has begun is canceled at once. Returns a warning, raises `WorkitemConflict`."""
        with self._database.write() as connection:
            before = _permitted(connection, decision, Interaction.UPDATE, uid, for_update=True)
            after = CANCEL_REQUESTED[before.state]
            if isinstance(after, int):
                warning = _told_state(after, before.state)
                self._told(connection, actor, "update", REST_UPDATE, before)
                return warning
            if after == CANCELED:
                now = _now()
                begun = workitem.in_state(before.item, IN_PROGRESS, now)
                item = workitem.cancelled_by_request(begun, request, now)
                workitems.save(connection, before, item)
                reports = [workitem_events.state_report(begun), workitem_events.state_report(item)]
            else:
                reports = [workitem_events.cancel_requested(before.item, request, requesting_ae)]
            subscribers.publish(connection, uid, reports)
            self._told(connection, actor, "update", REST_UPDATE, before)
        return None

    def search(
        self, connection: Connection, decision: Decision, keys: Sequence[Key], *, limit: int, offset: int
    ) -> list[Workitem]:
        """Section CC.2.8. The caller puts it into the trail."""
        decision.require(TASK, Interaction.SEARCH)
        allowed = decision.where(TASK, Interaction.SEARCH, workitems.PATIENT_OF)
        return workitems.find(connection, keys, allowed, limit=limit, offset=offset)

    def subscribe(
        self, decision: Decision, actor: Actor, target: str, ae_title: str, *, lock: bool, keys: Sequence[Key] = ()
    ) -> None:
        """Section CC.2.3: to one workitem, to the worklist (`GLOBAL`), or to what `keys` match (`FILTERED`).

        The subscriber gets the state of each workitem that is new to it. Raises `Forbidden`: for an AE title of another client, and for
        a free one to who does not see every patient's workitems.
        """
        whole = target in (GLOBAL, FILTERED)
        with self._database.write() as connection:
            _permitted_to_watch(connection, decision, target)
            subscribers.settle(connection, worklist=whole)
            if decision.patients(TASK, Interaction.READ) is None:
                subscribers.join(connection, ae_title, decision.subject)
            else:  # AE titles are few and everybody's: who sees one patient takes none
                subscribers.require_taken(connection, ae_title, decision.subject)
            found = [target, *workitems.uids(connection, keys)] if whole else [target]
            new = [
                uid
                for uid in subscribers.subscribe(connection, ae_title, found, lock=lock, keys=keys)
                if uid != target or not whole
            ]
            for one in workitems.many(connection, new[-subscribers.MOST_WAITING :]):
                subscribers.publish(connection, one.uid, [workitem_events.state_report(one.item)], ae_title)
            self._noted(connection, actor, target)

    def unsubscribe(self, decision: Decision, actor: Actor, target: str, ae_title: str) -> None:
        """Section CC.2.3. Raises `NotFound`, and `Forbidden` for another client's AE title."""
        decision.require(TASK, Interaction.READ)
        with self._database.write() as connection:
            subscribers.settle(connection, worklist=False)
            subscribers.unsubscribe(connection, ae_title, target, decision.subject)
            self._noted(connection, actor, target)

    def suspend(self, decision: Decision, actor: Actor, target: str, ae_title: str) -> None:
        """Section CC.2.3: ends a subscription to the worklist, not those to the workitems that there are. Raises as `unsubscribe`."""
        decision.require(TASK, Interaction.READ)
        with self._database.write() as connection:
            subscribers.settle(connection, worklist=False)
            subscribers.suspend(connection, ae_title, target, decision.subject)
            self._noted(connection, actor, target)

    def _told(self, connection: Connection, actor: Actor, kind: Kind, subtype: Subtype, one: Workitem) -> None:
        action = self._trail.action(
            kind, subtype, actor.agent, patient_id=one.patient, entities=dicom_objects(instance=one.uid),
            request_id=actor.request_id, token_id=actor.token_id,
        )  # fmt: skip
        self._trail.record(connection, action)

    def _noted(self, connection: Connection, actor: Actor, target: str) -> None:
        found = workitems.get(connection, target)
        action = self._trail.action(
            "update", REST_UPDATE, actor.agent, patient_id=found.patient if found else "", entities=dicom_objects(instance=target),
            request_id=actor.request_id, token_id=actor.token_id,
        )  # fmt: skip
        self._trail.record(connection, action)


def _permitted(
    connection: Connection, decision: Decision, interaction: Interaction, uid: str, *, for_update: bool = False
) -> Workitem:
    """Raises `Forbidden`; `NotFound` only to who may see every patient's, as others are told the same of a stranger's and of none."""
    decision.require(TASK, interaction)
    found = workitems.get(connection, uid, for_update=for_update)
    if found is None:
        if decision.patients(TASK, interaction) is not None:
            raise Forbidden(OTHER_PATIENT)
        raise NotFound(_NOTHING)
    decision.require_patient(TASK, interaction, found.patient)
    if not decision.sees_whose(connection, TASK, interaction, found.patient):
        raise decision.unseen(TASK, interaction, found.patient, _NOTHING)
    return found


def _permitted_to_watch(connection: Connection, decision: Decision, target: str) -> None:
    if target not in (GLOBAL, FILTERED):
        _permitted(connection, decision, Interaction.READ, target)
        return
    for interaction in (Interaction.READ, Interaction.SEARCH):
        decision.require(TASK, interaction)
        if decision.patients(TASK, interaction) is not None:
            raise Forbidden("the worklist tells of every patient: a subscription to it needs a system/ or user/ scope")


def _require_lock_to_change(before: Workitem, lock: str) -> None:
    """Section CC.2.6.3, PS3.18 section 11.6.2."""
    if before.state in FINAL:
        raise WorkitemConflict(_REASONS[0xC300], 0xC300, 400, _INCONSISTENT)
    if before.state == SCHEDULED and lock:
        raise WorkitemConflict(_REASONS[0xC310], 0xC310, 409, _NOT_CLAIMED)
    if before.state == IN_PROGRESS and lock != before.transaction_uid:
        rule = "a workitem in progress is changed with the Transaction UID that it was claimed with: POST /workitems/{uid}?{transaction UID}"
        raise WorkitemConflict(rule, 0xC301, 400, _WRONG_UID if lock else _NO_UID)


def _told_state(status: int, state: str) -> str:
    if status & 0xF000 == 0xB000:
        return ALREADY(state)
    raise WorkitemConflict(_REASONS[status], status, 409, _INCONSISTENT)


def _require_none(faults: Sequence[Violation]) -> None:
    if faults:
        raise WrongAttributes(_listed(faults), tags=tuple(int(fault.path[-1], 16) for fault in faults))


def _listed(faults: Sequence[Violation]) -> str:
    return "; ".join(map(str, faults[:5])) + ("; and more" if len(faults) > 5 else "")


def _now() -> datetime:
    return datetime.now(UTC)
