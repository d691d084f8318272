"""Workitems: PS3.4 table CC.2.5-3 as data, and what follows from it."""

from datetime import UTC, datetime

import pytest
from peers.worklist import attribute, discontinued, performed, step

from profiles import workitem
from profiles.model_item import items
from profiles.workitem import CANCELED, COMPLETED, IN_PROGRESS, PROGRESS, rules

NOW = datetime(2026, 11, 22, 10, 11, 12, tzinfo=UTC)


def test_the_table_is_whole() -> None:
    assert all(len(tag) == 8 and tag == tag.upper() for path in rules() for tag in path)
    assert {rule.final for rule in rules().values()} == {"R", "P", "X", "O"}
    assert rules()["00741002", "0074100E"].final == "X"
    assert rules()["0040A370", "0020000D"].create == "1"


def test_a_new_workitem_has_all_of_type_2() -> None:
    made = workitem.created(step(), "1.2.3", "Worklist", NOW)
    assert not workitem.creation_faults(step())
    assert all(path[0] in made for path, rule in rules().items() if len(path) == 1 and rule.create in ("1", "2"))
    assert made["00404010"]["Value"] == ["20261122101112+0000"]
    assert made["00741202"]["Value"] == ["CAD"]


@pytest.mark.parametrize("path", [path for path, rule in rules().items() if len(path) == 1 and rule.change == "-"])
def test_what_may_not_be_set(path: tuple[str, ...]) -> None:
    (tag,) = path
    before = workitem.created(step(), "1.2.3", "Worklist", NOW)
    (fault,) = workitem.change_faults({tag: attribute("LO", "other")}, before)[:1]
    assert fault.path == path
    assert not workitem.change_faults({tag: before.get(tag, attribute("LO"))}, before)


@pytest.mark.parametrize("tag", [path[0] for path, rule in rules().items() if len(path) == 1 and rule.change == "1"])
def test_what_may_not_be_emptied(tag: str) -> None:
    before = {**workitem.created(step(), "1.2.3", "Worklist", NOW), tag: attribute("LO", "something")}
    (fault,) = workitem.change_faults({tag: attribute("LO")}, before)
    assert fault.path == (tag,)


@pytest.mark.parametrize("inner", ["00404028", "00404050", "00404019", "00404051"])
def test_what_a_completed_step_must_say(inner: str) -> None:
    item = workitem.changed(workitem.created(step(), "1.2.3", "Worklist", NOW), performed(), NOW)
    assert not workitem.unmet(item, COMPLETED)
    del item["00741216"]["Value"][0][inner]  # type: ignore[index]
    (lacking,) = workitem.unmet(item, COMPLETED)
    assert lacking.path == ("00741216", inner)
    assert "final state" in str(lacking)


def test_a_canceled_step_says_when_and_why() -> None:
    item = workitem.created(step(), "1.2.3", "Worklist", NOW)
    assert workitem.unmet(item, CANCELED)
    item = workitem.changed(item, discontinued(), NOW)
    ended = workitem.in_state(item, CANCELED, NOW)
    assert not workitem.unmet(ended, CANCELED)
    own = workitem.with_progress(item, {"00404052": attribute("DT", "2020")})
    (progress,) = items(workitem.in_state(own, CANCELED, NOW), PROGRESS)
    assert progress["00404052"]["Value"] == ["2020"], "what the performer said stays"
    asked = workitem.cancelled_by_request(workitem.in_state(item, IN_PROGRESS, NOW), {}, NOW)
    assert not workitem.unmet(asked, CANCELED)
