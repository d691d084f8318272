"""Workitems as a state machine: whatever is asked in whatever order, PS3.4 table CC.1.1-2 holds and the events tell exactly what happened."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from peers.worklist import discontinued, performed, step
from sqlalchemy import select, true

from profiles.audit_event import Agent
from profiles.workitem import CANCELED, COMPLETED, GLOBAL, IN_PROGRESS, SCHEDULED
from server.access.decisions import Decision, parse_scopes
from server.edges.context import Node
from server.errors import Conflict, Forbidden, ImageShareError, NotFound, WorkitemConflict, WrongAttributes
from server.records import belonging, workitems
from server.records import workitem_subscribers as subscribers
from server.records.catalogue import PATIENT
from server.work.reconcile import Actor
from server.work.workitems import Worklist

UID, RIGHT, WRONG = "1.2.3", "1.2.3.4", "1.2.3.5"
ANYBODY = Decision("tester", parse_scopes("system/Task.cruds"))
ACTOR = Actor(Agent("tester"))
STATES = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
REQUESTS = (
    "create",
    "update",
    "update with lock",
    "ready",
    "cancel",
    *((state, lock) for state in STATES for lock in (RIGHT, WRONG, "")),
)


@dataclass
class Model:
    """PS3.4 table CC.1.1-2 written a second time, as plainly as can be."""

    state: str | None = None
    lock: str = ""
    ready: bool = False
    told: list[tuple[int, str]] = field(default_factory=list)

    def expected(self, asked: str | tuple[str, str]) -> int:
        """The status: 0 for success, else that of PS3.4 (1 for NotFound, 2 for a duplicate)."""
        if self.state is None:
            if asked != "create":
                return 1
            self._to(SCHEDULED)
            return 0
        if asked == "create":
            return 2
        if isinstance(asked, tuple):
            return self._change_state(*asked)
        if asked == "cancel":
            return self._cancel()
        return self._update(asked)

    def _to(self, state: str) -> None:
        self.state = state
        self.told.append((1, state))

    def _change_state(self, state: str, lock: str) -> int:
        if not lock or (self.lock and lock != self.lock):
            return 0xC301
        if state == SCHEDULED:
            return 0xC303
        if self.state == SCHEDULED:
            if state != IN_PROGRESS:
                return 0xC310
            self.lock = lock
        elif self.state == IN_PROGRESS:
            if state == IN_PROGRESS:
                return 0xC302
            if not self.ready:
                return 0xC304
        elif self.state == state:
            return 0xB306 if state == COMPLETED else 0xB304
        else:
            return 0xC300
        self._to(state)
        return 0

    def _cancel(self) -> int:
        if self.state == SCHEDULED:
            self._to(IN_PROGRESS)
            self._to(CANCELED)
        elif self.state == IN_PROGRESS:
            self.told.append((2, ""))
        else:
            return 0xC311 if self.state == COMPLETED else 0xB304
        return 0

    def _update(self, asked: str) -> int:
        lock = "" if asked == "update" else RIGHT
        if self.state in (COMPLETED, CANCELED):
            return 0xC300
        if self.state == SCHEDULED and lock:
            return 0xC310
        if self.state == IN_PROGRESS and lock != self.lock:
            return 0xC301
        if asked == "ready" and not self.ready:
            self.ready = True
            self.told.append((3, ""))
        return 0


def ask(work: Worklist, asked: str | tuple[str, str]) -> int:
    try:
        if isinstance(asked, tuple):
            warning = work.change_state(ANYBODY, ACTOR, UID, *asked)
        elif asked == "cancel":
            warning = work.request_cancel(ANYBODY, ACTOR, UID, {}, "BOSS")
        elif asked == "create":
            work.create(ANYBODY, ACTOR, UID, step())
            return 0
        else:
            changes = {**performed(), **discontinued()} if asked == "ready" else {}
            work.change(ANYBODY, ACTOR, UID, changes, None if asked == "update" else RIGHT)
            return 0
        return 0 if warning is None else 0xB306 if COMPLETED in warning else 0xB304
    except NotFound:
        return 1
    except WorkitemConflict as error:
        return error.dimse_status
    except Conflict:
        return 2


def worklist(opened: Node) -> Worklist:
    return Worklist(opened.settings, opened.database, opened.installation, opened.trail)


@examples(max_examples=12)
@given(
    requests=st.lists(st.sampled_from(REQUESTS), max_size=14).map(lambda asked: ["create", *asked] if len(asked) % 4 else asked)
)
def test_every_order_of_requests(
    databases: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[str | tuple[str, str]],
) -> None:
    with databases() as url, node(tmp_path_factory.mktemp("node"), url) as opened:
        work, model = worklist(opened), Model()
        work.subscribe(ANYBODY, ACTOR, GLOBAL, "ALL", lock=False)
        for asked in requests:
            assert ask(work, asked) == model.expected(asked), (asked, model)
        with opened.database.read() as connection:
            found = workitems.get(connection, UID)
            assert (found.state if found else None) == model.state
            if found:
                assert found.item["00741000"]["Value"] == [model.state]
                assert "00081195" not in found.item
            events = [orjson.loads(event.body) for event in subscribers.waiting(connection, "ALL", ANYBODY.subject, 0, true())]
        assert [
            (event["00001002"]["Value"][0], event.get("00741000", {"Value": [""]})["Value"][0]) for event in events
        ] == model.told


@contextmanager
def opened(tmp_path: Path, database_url: str) -> Iterator[Node]:
    with node(tmp_path / "data", database_url) as made:
        yield made


def test_what_fails_leaves_nothing(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change, events and audit event are one transaction."""
    with opened(tmp_path, database_url) as made:
        work = worklist(made)
        work.subscribe(ANYBODY, ACTOR, GLOBAL, "ALL", lock=False)
        work.create(ANYBODY, ACTOR, UID, step())
        with made.database.read() as connection:
            before = subscribers.newest(connection, ["ALL"])

        def fails(*_: object, **__: object) -> None:
            raise ImageShareError("the trail is away")

        monkeypatch.setattr(made.trail, "record", fails)
        for asked in ((IN_PROGRESS, RIGHT), "cancel", "update"):
            with pytest.raises(ImageShareError, match="the trail is away"):
                ask(work, asked)
        with made.database.read() as connection:
            found = workitems.get(connection, UID)
            assert found is not None
            assert (found.state, found.transaction_uid) == (SCHEDULED, "")
            assert subscribers.newest(connection, ["ALL"]) == before


def test_refusals_name_the_attributes(tmp_path: Path, database_url: str) -> None:
    with opened(tmp_path, database_url) as made, pytest.raises(WrongAttributes) as refused:
        worklist(made).create(ANYBODY, ACTOR, UID, {})
    assert {0x00741200, 0x00741204, 0x00404005, 0x00404041} <= set(refused.value.tags)
    assert "ScheduledProcedureStepPriority must have a value" in refused.value.detail


@pytest.fixture(scope="module")
def two_patients(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[tuple[Node, dict[str, str]]]:
    """A node with workitems of two patients whom it knows and of one whom it does not; resource ids by Patient ID."""
    with node(tmp_path_factory.mktemp("access") / "data", module_database_url) as made:
        send(made, Made(number=1), Made(study=2, patient="P2"))
        publish_all(made)
        for patient in ("P1", "P2", "NOBODY"):
            worklist(made).create(ANYBODY, ACTOR, f"{UID}.{ord(patient[-1])}", step(patient))
        with made.database.read() as connection:
            ids = {row.value: row.id for row in connection.execute(select(PATIENT.c.value, PATIENT.c.id))}
        yield made, ids


@given(
    context=st.sampled_from(["patient", "user", "system"]), letters=st.sets(st.sampled_from("cruds")), type_=st.sampled_from(["Task", "*", "Patient"]),
    bound=st.sampled_from(["P1", "P2", None]), asks=st.sampled_from("crus"), of=st.sampled_from(["P1", "P2", "NOBODY"]),
)  # fmt: skip
def test_access(
    two_patients: tuple[Node, dict[str, str]], context: str, letters: set[str], type_: str, bound: str | None, asks: str, of: str
) -> None:
    """Who has the letter may; who is confined to a patient may with that patient's only."""
    made, ids = two_patients
    work, uid = worklist(made), f"{UID}.{ord(of[-1])}"
    scope = f"{context}/{type_}.{''.join(letter for letter in 'cruds' if letter in letters)}"
    decision = Decision("tester", parse_scopes(scope), ids[bound] if bound else None)
    granted = asks in letters and type_ != "Patient" and (context != "patient" or bound is not None)
    visible = {"P1", "P2", "NOBODY"} if context != "patient" else {bound} & {"P1", "P2"}
    if asks == "s":
        with made.database.read() as connection:
            if not granted:
                with pytest.raises(Forbidden):
                    work.search(connection, decision, (), limit=10, offset=0)
            else:
                found = work.search(connection, decision, (), limit=10, offset=0)
                assert {one.item["00100020"]["Value"][0] for one in found} == visible  # type: ignore[index]
        return
    if granted and of in visible:
        with pytest.raises(Conflict) if asks == "c" else nullcontext():  # there is one of that UID
            _ask_as(made, work, decision, asks, uid, of)
    else:
        with pytest.raises(Forbidden):
            _ask_as(made, work, decision, asks, uid, of)


def _ask_as(made: Node, work: Worklist, decision: Decision, asks: str, uid: str, of: str) -> None:
    if asks == "c":
        work.create(decision, ACTOR, uid, step(of))
    elif asks == "u":
        work.change(decision, ACTOR, uid, {}, None)
    else:
        with made.database.read() as connection:
            work.read(connection, decision, uid)


def test_who_is_merged_takes_the_workitems_along(tmp_path: Path, database_url: str) -> None:
    with opened(tmp_path, database_url) as made:
        send(made, Made(number=1), Made(study=2, patient="P2"))
        publish_all(made)
        worklist(made).create(ANYBODY, ACTOR, UID, step("P1"))
        with made.database.write() as connection:
            rows = {row.value: row for row in connection.execute(select(PATIENT.c.value, PATIENT.c.id, PATIENT.c.pk))}
            belonging.merge(connection, rows["P1"].pk, rows["P2"].pk)
            found = workitems.get(connection, UID)
            assert found is not None
            assert found.patient == rows["P2"].id


def test_events_are_their_owners(tmp_path: Path, database_url: str) -> None:
    """Also where somebody asks who had the AE title before, or took it for free a moment ago."""
    with opened(tmp_path, database_url) as made:
        work = worklist(made)
        work.subscribe(ANYBODY, ACTOR, GLOBAL, "ALL", lock=False)
        assert ask(work, "create") == 0
        with made.database.read() as connection:
            assert subscribers.waiting(connection, "ALL", ANYBODY.subject, 0, true())
            assert subscribers.waiting(connection, "ALL", "somebody else", 0, true()) == []
