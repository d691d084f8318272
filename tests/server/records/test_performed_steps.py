"""Performed steps as a state machine: whatever is sent in whatever order, a final state is final and the worklist follows."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from peers.scheduled import begun, ended, scheduled
from pydicom.dataset import Dataset

from server.errors import Conflict, NotFound, StepEnded, WrongAttributes
from server.records import performed_steps, worklist
from server.records.performed_steps import COMPLETED, DISCONTINUED, IN_PROGRESS, RULES
from server.store.db import Database
from server.store.migrations import migrate

UID = "1.2.3.4"

# (state before, what is sent): state after, or the refusal. The state None is before N-CREATE.
TABLE: dict[tuple[str | None, str], str | type[Exception]] = {
    (None, "create"): IN_PROGRESS,
    (None, IN_PROGRESS): NotFound,
    (None, COMPLETED): NotFound,
    (None, DISCONTINUED): NotFound,
    (IN_PROGRESS, "create"): Conflict,
    (IN_PROGRESS, IN_PROGRESS): IN_PROGRESS,
    (IN_PROGRESS, COMPLETED): COMPLETED,
    (IN_PROGRESS, DISCONTINUED): DISCONTINUED,
    (COMPLETED, "create"): Conflict,
    **{(COMPLETED, sent): StepEnded for sent in (IN_PROGRESS, COMPLETED, DISCONTINUED)},
    (DISCONTINUED, "create"): Conflict,
    **{(DISCONTINUED, sent): StepEnded for sent in (IN_PROGRESS, COMPLETED, DISCONTINUED)},
}
_WORKLIST = {None: "SCHEDULED", IN_PROGRESS: "STARTED", COMPLETED: "COMPLETED", DISCONTINUED: "DISCONTINUED"}


@examples(max_examples=15)
@given(sent=st.lists(st.sampled_from(["create", IN_PROGRESS, COMPLETED, DISCONTINUED]), max_size=6))
def test_states(databases: Callable[[], AbstractContextManager[str]], sent: list[str]) -> None:
    with databases() as url:
        database = Database(url)
        try:
            migrate(database)
            with database.write() as connection:
                worklist.put(connection, scheduled(1).to_json_dict())
            state: str | None = None
            for each in sent:
                expected = TABLE[state, each]
                if isinstance(expected, str):
                    send(database, each)
                    state = expected
                else:
                    with pytest.raises(expected):
                        send(database, each)
            with database.read() as connection:
                (entry,) = worklist.entries(connection, ended=True)
                assert entry.step[worklist.STATUS]["Value"] == [_WORKLIST[state]]
                if state is not None:
                    assert performed_steps.get(connection, UID).status == state
        finally:
            database.close()


def send(database: Database, what: str) -> None:
    with database.write() as connection:
        if what == "create":
            performed_steps.create(connection, UID, begun().to_json_dict(), source="CT1")
        else:
            performed_steps.change(connection, UID, ended(what).to_json_dict(), source="CT1")


@pytest.mark.parametrize("tag", [tag for tag, rule in RULES.items() if rule.create == "1"])
def test_every_attribute_of_type_1_must_have_a_value(database_url: str, tag: str) -> None:
    database = Database(database_url)
    migrate(database)
    item = begun().to_json_dict()
    for wrong, status in (({**item, tag: {"vr": item[tag]["vr"]}}, 0x0121), (item, 0x0120)):
        wrong = dict(wrong)
        if status == 0x0120:
            del wrong[tag]
        with database.write() as connection, pytest.raises(WrongAttributes) as refused:
            performed_steps.create(connection, UID, wrong, source="CT1")
        assert (refused.value.dimse_status, refused.value.tags) == (status, (int(tag, 16),))
    database.close()


@pytest.mark.parametrize("tag", [tag for tag, rule in RULES.items() if not rule.may_set])
def test_what_may_not_be_set_is_not(database_url: str, tag: str) -> None:
    database = Database(database_url)
    migrate(database)
    other = Dataset()
    vr = begun().to_json_dict().get(tag, {"vr": "SQ"})["vr"]
    with database.write() as connection:
        before = performed_steps.create(connection, UID, begun().to_json_dict(), source="CT1")
        changes = {**other.to_json_dict(), tag: {"vr": vr, "Value": [{}] if vr == "SQ" else ["19990101"]}}
        after, refused = performed_steps.change(connection, UID, changes, source="CT1")
    assert after.item.get(tag) == before.item.get(tag)
    assert refused == (int(tag, 16),)
    database.close()
