"""Who reaches whom, and until when: parents, carers, birthdays."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.people import Town, town
from peers.together import together

from server.access import epoch
from server.access.people import accounts, proxies
from server.access.people.proxies import FOREVER, Proxy
from server.errors import Forbidden, NotFound, Refused
from server.records import resources
from server.records.trail import events
from server.store.db import Database, micros

DAY = 86_400_000_000
NOW = micros(datetime(2026, 11, 22, 12, tzinfo=UTC))


def born(database: Database, id_: str, day: str | None) -> None:
    with database.write() as connection:
        resources.put(connection, {"resourceType": "Patient", "id": id_, **({"birthDate": day} if day else {})})


def reach(lively: Town, account: accounts.Account, now: int = NOW) -> tuple[frozenset[str] | None, int]:
    with lively.database.read() as connection:
        return accounts.reach(connection, account, now)


def number(lively: Town) -> int:
    with lively.database.read() as connection:
        return epoch.current(connection)


def test_a_patient_reaches_the_own_records_only(lively: Town) -> None:
    anna = lively.account(patients=["a1", "a2"])
    assert reach(lively, anna) == ({"a1", "a2"}, FOREVER)
    assert reach(lively, lively.account("new@example.org")) == (set(), FOREVER)


@pytest.mark.parametrize("kind", ["practitioner", "staff", "administrator"])
def test_people_who_work_here_reach_everybody(lively: Town, kind: str) -> None:
    assert reach(lively, lively.account(kind=kind)) == (None, FOREVER)


@pytest.mark.parametrize("kind", accounts.KINDS)
def test_a_disabled_account_reaches_nobody(lively: Town, kind: str) -> None:
    made = lively.account(kind=kind, patients=["a"])
    before = number(lively)
    with lively.database.write() as connection:
        accounts.disable(connection, made.id)
        found = accounts.find(connection, made.id)
    assert found is not None
    assert found.disabled
    assert reach(lively, found) == (set(), FOREVER)
    assert number(lively) > before


def test_a_proxy_holds_from_its_begin_to_its_end(lively: Town) -> None:
    carer = lively.account(kind="proxy")
    before = number(lively)
    lively.people.proxying.begin(carer.id, "old", "carer", by=None, begins=NOW, ends=NOW + DAY)
    assert number(lively) > before, "the next request of every process knows"
    assert reach(lively, carer, NOW - 1) == (set(), NOW)
    assert reach(lively, carer, NOW) == ({"old"}, NOW + DAY)
    assert reach(lively, carer, NOW + DAY - 1) == ({"old"}, NOW + DAY)
    assert reach(lively, carer, NOW + DAY) == (set(), FOREVER)


def test_a_proxy_that_is_ended_opens_nothing_from_then_on(lively: Town) -> None:
    born(lively.database, "child", "2020-01-01")
    parent = lively.account(kind="proxy")
    held = lively.people.proxying.begin(parent.id, "child", "parent", by=None)
    before = number(lively)
    lively.people.proxying.end(held.id, by=None)
    assert number(lively) > before
    assert reach(lively, parent, micros()) == (set(), FOREVER)
    with pytest.raises(NotFound):
        lively.people.proxying.end(held.id, by=None)


def test_a_parents_access_ends_on_the_birthday(lively: Town) -> None:
    born(lively.database, "child", "2010-03-04")
    parent = lively.account(kind="proxy")
    lively.people.proxying.begin(parent.id, "child", "parent", by=None, begins=0, until_age=18)
    birthday = micros(datetime(2028, 3, 4, tzinfo=UTC))
    assert reach(lively, parent, birthday - 1) == ({"child"}, birthday)
    assert reach(lively, parent, birthday)[0] == set()
    born(lively.database, "child", "2005-01-01")  # corrected: she is of age
    assert reach(lively, parent, NOW)[0] == set()


def test_an_age_is_looked_at_again_soon_for_the_birth_date_may_be_corrected(lively: Town) -> None:
    born(lively.database, "child", "2020-01-01")
    parent = lively.account(kind="proxy")
    lively.people.proxying.begin(parent.id, "child", "parent", by=None, begins=0, until_age=16)
    assert reach(lively, parent, NOW)[1] <= NOW + 15 * 60 * 1_000_000


def test_without_a_birth_date_an_age_says_nothing(lively: Town) -> None:
    born(lively.database, "child", None)
    parent = lively.account(kind="proxy")
    with pytest.raises(Refused, match="birth date"):
        lively.people.proxying.begin(parent.id, "child", "parent", by=None, until_age=18)
    born(lively.database, "child", "2020-01-01")
    lively.people.proxying.begin(parent.id, "child", "parent", by=None, until_age=18)
    assert reach(lively, parent, micros())[0] == {"child"}
    born(lively.database, "child", None)
    assert reach(lively, parent, micros())[0] == set()


@pytest.mark.parametrize(
    ("day", "age", "over"),
    [
        (date(2008, 2, 29), 18, datetime(2026, 2, 28, tzinfo=UTC)),
        (date(2008, 2, 29), 20, datetime(2028, 2, 29, tzinfo=UTC)),
        (date(2010, 12, 31), 18, datetime(2028, 12, 31, tzinfo=UTC)),
    ],
)
def test_birthdays(day: date, age: int, over: datetime) -> None:
    assert proxies.birthday(day, age) == micros(over)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2010-03-04", date(2010, 3, 4)), ("2010-03", date(2010, 3, 1)), ("2010", date(2010, 1, 1)), ("20100304", date(2010, 3, 4)),
        ("", None), ("unknown", None), ("2010-02-30", None),
    ],
)  # fmt: skip
def test_of_a_date_that_is_not_whole_the_first_day_counts(text: str, day: date | None) -> None:
    assert proxies.first_day(text) == day


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"relation": "friend"}, "one of"), ({"ends": NOW - 1}, "before it ends"), ({"ends": NOW}, "before it ends"),
        ({"until_age": -1}, "in years"), ({"until_age": 151}, "in years"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(lively: Town, given: dict[str, object], told: str) -> None:
    made = lively.account(kind="proxy")
    with pytest.raises(Refused, match=told):
        lively.people.proxying.begin(made.id, "x", **{"relation": "carer", "by": None, "begins": NOW, **given})  # type: ignore[arg-type]
    assert reach(lively, made) == (set(), FOREVER)


@pytest.mark.parametrize(("kind", "may"), [("patient", False), ("proxy", False), ("practitioner", False), ("staff", True), ("administrator", True)])  # fmt: skip
def test_staff_alone_say_who_is_whose_proxy_and_the_trail_names_them(lively: Town, kind: str, may: bool) -> None:
    by, made = lively.account("by@example.org", kind=kind), lively.account(kind="proxy")
    if not may:
        with pytest.raises(Forbidden):
            lively.people.proxying.begin(made.id, "x", "carer", by=by, address="192.0.2.9")
        assert reach(lively, made) == (set(), FOREVER)
        return
    held = lively.people.proxying.begin(made.id, "x", "carer", by=by, address="192.0.2.9")
    lively.people.proxying.end(held.id, by=by)
    with lively.database.read() as connection:
        ended, begun = events(connection, limit=10)
    for event in (ended, begun):
        assert event.patient == "x", "the patient can read who it was"
        assert by.id.encode() in event.body
        assert made.id.encode() in event.body
        assert b"@example.org" not in event.body


def test_who_is_a_proxy_may_end_it_and_nobody_elses(lively: Town) -> None:
    one, other = lively.account("one@example.org", kind="proxy"), lively.account("other@example.org", kind="proxy")
    held = lively.people.proxying.begin(one.id, "x", "carer", by=None)
    with pytest.raises(Forbidden):
        lively.people.proxying.end(held.id, by=other)
    assert reach(lively, one, micros())[0] == {"x"}
    lively.people.proxying.end(held.id, by=one)
    assert reach(lively, one, micros())[0] == set()


def test_nobody_is_proxy_without_an_account(lively: Town) -> None:
    with pytest.raises(NotFound):
        lively.people.proxying.begin("nobody", "x", "carer", by=None)


# --- what is usual


@pytest.mark.parametrize(("relation", "age"), [("parent", 18), ("guardian", 18), ("carer", 0), ("other", 0)])
def test_a_parent_is_one_until_the_child_is_of_age(lively: Town, relation: str, age: int) -> None:
    born(lively.database, "child", "2020-01-01")
    account = lively.account(kind="proxy")
    assert lively.people.proxying.begin(account.id, "child", relation, by=None).until_age == age
    assert lively.people.proxying.begin(account.id, "child", relation, by=None, until_age=0).until_age == 0, (
        "said in so many words"
    )
    assert lively.people.proxying.begin(account.id, "child", relation, by=None, ends=micros() + DAY).until_age == 0


def test_a_site_says_what_is_usual(tmp_path: Path, database_url: str) -> None:
    with town(tmp_path, database_url, proxy_until_age=12) as lively:
        born(lively.database, "child", "2020-01-01")
        assert lively.people.proxying.begin(lively.account(kind="proxy").id, "child", "parent", by=None).until_age == 12


def test_what_would_be_over_already_is_refused(lively: Town) -> None:
    born(lively.database, "old", "1960-01-01")
    account = lively.account(kind="proxy")
    for age in (None, 12):
        with pytest.raises(Refused, match="over already"):
            lively.people.proxying.begin(account.id, "old", "parent", by=None, until_age=age)
    assert reach(lively, account) == (set(), FOREVER)


def test_nobody_is_proxy_twice(lively: Town) -> None:
    """The same again changes nothing; something else takes its place. The trail has what was changed, and no more."""
    account = lively.account(kind="proxy")
    first = lively.people.proxying.begin(account.id, "x", "carer", by=None)
    assert lively.people.proxying.begin(account.id, "x", "carer", by=None) == first
    second = lively.people.proxying.begin(account.id, "x", "other", by=None)
    with lively.database.read() as connection:
        held = proxies.of_account(connection, account.id)
        told = [json.loads(each.body)["outcomeDesc"] for each in events(connection, limit=10)]
    assert [(each.id, each.ended > 0) for each in held] == [(first.id, True), (second.id, False)]
    assert sorted(told) == ["proxy begun: carer", "proxy begun: other", "proxy ended: carer"]


def test_many_who_say_so_at_once_make_one(lively: Town) -> None:
    account = lively.account(kind="proxy")
    assert together(*[lambda: lively.people.proxying.begin(account.id, "x", "carer", by=None)] * 8) == []
    with lively.database.read() as connection:
        assert len(proxies.of_account(connection, account.id)) == 1


# --- against a slow oracle

_MOMENTS = st.integers(NOW - 3 * DAY, NOW + 3 * DAY)
_PROXIES = st.builds(
    Proxy, st.just(""), st.just(""), st.sampled_from(["p", "q"]), st.just("carer"), _MOMENTS, st.just(0) | _MOMENTS,
    st.sampled_from([0, 0, 16, 18]), st.just(0) | _MOMENTS,
)  # fmt: skip
_BIRTHS = st.one_of(st.none(), st.dates(date(2008, 11, 19), date(2008, 11, 26)), st.dates(date(2010, 11, 19), date(2010, 11, 26)))


def _years(day: date, on: date) -> int:
    return on.year - day.year - ((on.month, on.day) < (day.month, day.day))


def _holds(each: Proxy, now: int, day: date | None) -> bool:
    if now < each.begins or (each.ends and now >= each.ends) or (each.ended and now >= each.ended):
        return False
    on = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).date()
    return not each.until_age or (day is not None and _years(day, on) < each.until_age)


@settings(max_examples=300)
@given(_PROXIES, _MOMENTS, _BIRTHS)
def test_a_proxy_holds_as_the_oracle_says(each: Proxy, now: int, day: date | None) -> None:
    assert each.holds(now, day) == _holds(each, now, day)


@given(given=st.lists(_PROXIES, max_size=4), now=_MOMENTS, births=st.tuples(_BIRTHS, _BIRTHS), later=st.integers(0, 2 * DAY))
@settings(max_examples=25)
def test_reach_is_that_of_every_proxy_and_holds_until_it_says(
    databases: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
    given: list[Proxy],
    now: int,
    births: tuple[date | None, date | None],
    later: int,
) -> None:
    days = dict(zip(("p", "q"), births, strict=True))
    with databases() as url, town(tmp_path_factory.mktemp("town"), url) as lively:
        made = lively.account(kind="proxy", patients=["own"])
        for patient, day in days.items():
            born(lively.database, patient, day.isoformat() if day else None)
        with lively.database.write() as connection:
            for at, each in enumerate(given):
                connection.execute(
                    proxies.PROXY.insert().values(
                        id=str(at), account=made.id, patient=each.patient, relation="carer", begins=each.begins, ends=each.ends,
                        until_age=each.until_age, ended=0 if at % 2 else each.ended, created=at,
                    )
                )  # fmt: skip
        stored = [each if at % 2 == 0 else Proxy(*("", "", each.patient, "carer", each.begins, each.ends, each.until_age)) for at, each in enumerate(given)]  # fmt: skip

        def slowly(moment: int) -> set[str]:
            # One with an end that somebody set is over from then on, whatever moment that was: it is set when it happens.
            return {"own"} | {each.patient for each in stored if not each.ended and _holds(each, moment, days[each.patient])}

        found, until = reach(lively, made, now)
        assert found == slowly(now)
        assert until > now
        moment = min(now + later, until - 1)
        assert slowly(moment) == found
        assert reach(lively, made, moment)[0] == found
