"""Pages of searches: what stays stable while data change, and what is on them."""

from collections.abc import Iterator

import pytest
from peers.fhir_search import LATER, asked, everybody, filled, found, page, study
from sqlalchemy import Connection

from profiles.fhir.query import Search
from server.records import fhir_search, resources
from server.records.fhir_search import Page, Position, matches

ORDERS = ["", "_sort=started", "_sort=-started", "_sort=_lastUpdated", "modality=CT&_sort=-started", "_sort=status,-started"]


@pytest.mark.parametrize("query", ORDERS)
def test_what_comes_while_somebody_pages_stays_out(connection: Connection, query: str) -> None:
    filled(connection, 4)
    whole = [match.id for match in page(connection, asked("ImagingStudy", query), began=5_000_000).matches]
    first = page(connection, asked("ImagingStudy", query), 2, began=5_000_000)
    resources.put(connection, study("s5", started="2026-01-20"), now=6_000_000)
    rest = page(connection, asked("ImagingStudy", query), 9, first.next, 5_000_000)
    assert [match.id for match in (*first.matches, *rest.matches)] == whole


def test_what_changes_while_somebody_pages_is_not_lost(connection: Connection) -> None:
    wanted = filled(connection, 4)
    first = page(connection, asked("ImagingStudy"), 2, began=5_000_000)
    changed = resources.put(connection, study("s2", started="2026-01-02", numberOfSeries=2), now=6_000_000)
    rest = page(connection, asked("ImagingStudy"), 9, first.next, 5_000_000)
    assert [match.id for match in (*first.matches, *rest.matches)] == wanted
    assert changed.version == 2
    assert rest.matches[0].body == changed.body


@pytest.mark.parametrize("types", ["ImagingStudy", "ImagingStudy,Basic"])
@pytest.mark.parametrize("query", ["_sort=-_lastUpdated", "_sort=_lastUpdated", ""])
def test_what_is_changed_while_somebody_pages_by_updates_is_on_a_later_page(
    connection: Connection, query: str, types: str
) -> None:
    """FHIR R4 section 3.1.1.5.4: its new place is one that lies behind, or at the end of all."""
    filled(connection, 6)
    late = "s5" if query == "_sort=_lastUpdated" else "s2"
    pages = list(paged(connection, asked(types, query), 2, {0: late, 1: late}))
    assert {each for page in pages for each in page} == {f"s{number}" for number in range(1, 7)}
    assert late not in pages[0]
    assert sum(page.count(late) for page in pages) == 1


@pytest.mark.parametrize("query", ["_sort=started", "_sort=-started", "_sort=identifier", "_sort=-identifier", "modality=CT"])
def test_what_changes_its_place_while_somebody_pages_is_not_lost(connection: Connection, query: str) -> None:
    """Its new place lies behind: it is told of after all others."""
    for number in range(1, 7):
        resources.put(connection, study(f"s{number}", started=f"2026-01-{number:02}"), now=1_000_000)
    search = asked("ImagingStudy", query)
    first = page(connection, search, 2, began=5_000_000)
    lost = "s5" if first.matches[0].id == "s1" else "s2"
    day, uid = ("2025-01-01", "0.1") if lost == "s5" else ("2027-01-01", "2.9")
    named = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]
    resources.put(connection, study(lost, started=day, identifier=named), now=6_000_000)
    rest = [each.id for each in rest_of(connection, search, 2, first)]
    assert sorted([*(match.id for match in first.matches), *rest]) == [f"s{number}" for number in range(1, 7)]
    assert rest[-1] == lost


def test_changes_of_many_are_paged_too(connection: Connection) -> None:
    """More of them than a page has; and a page ends among those that were shown at their place."""
    filled(connection, 9)
    search = asked("ImagingStudy", "_sort=-_lastUpdated")
    first = page(connection, search, 2, began=10_000_000)
    for number in range(1, 9):
        resources.put(connection, study(f"s{number}", started=f"2026-02-{number:02}"), now=11_000_000 + number)
    rest = [each.id for each in rest_of(connection, search, 2, first)]
    assert sorted(rest) == [f"s{number}" for number in range(1, 9)]


def test_what_is_changed_before_the_first_page_is_read_is_on_it(connection: Connection) -> None:
    """Between the moment that the search began and its view of the data."""
    filled(connection, 3)
    resources.put(connection, study("s1", started="2026-02-01"), now=9_000_000)
    assert sorted(each.id for each in page(connection, asked("ImagingStudy", "_sort=_lastUpdated"), began=5_000_000).matches) == [
        "s1", "s2", "s3",
    ]  # fmt: skip


def paged(connection: Connection, search: Search, count: int, changes: dict[int, str]) -> Iterator[list[str]]:
    """The ids on each page; `changes`: after which page which study has a new version."""
    number, after = 0, None
    while True:
        found = page(connection, search, count, after, 10_000_000)
        yield [match.id for match in found.matches]
        if found.next is None:
            return
        after = Position.from_plain(found.next.plain())
        if number in changes:
            more = study(changes[number], started="2026-01-02", numberOfSeries=number + 2)
            resources.put(connection, more, now=20_000_000 + number)
        number += 1


def rest_of(connection: Connection, search: Search, count: int, first: Page) -> Iterator[matches.Match]:
    found = first
    while found.next is not None:
        found = page(connection, search, count, Position.from_plain(found.next.plain()), found.next.began)
        yield from found.matches


@pytest.mark.parametrize("query", [*ORDERS, "_id=s2", "status:not=cancelled", "_lastUpdated=gt1970", "series:missing=true"])
def test_what_was_deleted_is_nowhere(connection: Connection, query: str) -> None:
    filled(connection, 3)
    resources.delete(connection, "ImagingStudy", "s2", now=9_000_000)
    assert "s2" not in found(connection, "ImagingStudy", query)
    assert "s2" not in found(connection, "ImagingStudy,Patient", "_lastUpdated=gt1970")


def test_a_page_of_large_resources_ends_early(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "PAGE_BYTES", 3000)
    for number in range(1, 6):
        resources.put(connection, study(f"s{number}", started=f"2026-01-0{number}", description="x" * 900))
    first = page(connection, asked("ImagingStudy"), 5)
    assert [match.id for match in first.matches] == ["s5", "s4"]
    assert [match.id for match in page(connection, asked("ImagingStudy"), 5, first.next).matches] == ["s3", "s2"]
    monkeypatch.setattr(matches, "PAGE_BYTES", 10)
    assert len(page(connection, asked("ImagingStudy"), 5).matches) == 1


def test_a_page_has_the_stored_bytes_and_where_it_is_asked_for_the_stored_summary(connection: Connection) -> None:
    series = [
        {"uid": f"1.2.{each}", "modality": {"code": "CT"}, "instance": [{"uid": "1", "sopClass": {"code": "a"}}] * 90}
        for each in range(9)
    ]
    stored = resources.put(connection, study("s1", series=series))
    (whole,) = page(connection, asked("ImagingStudy")).matches
    assert (whole.body, whole.patient, whole.summary) == (stored.body, "p1", False)
    (short,) = page(connection, asked("ImagingStudy", "_summary=true")).matches
    assert (short.body, short.summary) == (stored.summary, True)


def test_an_estimate_is_counted_to_a_limit(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.records.fhir_search.searching.MOST_COUNTED", 3)
    filled(connection, 5)
    totals = [
        fhir_search.total(
            connection, asked("ImagingStudy", f"_total={each}"), decision_where=everybody, confined=False, began=LATER
        )
        for each in ("accurate", "estimate")
    ]
    assert totals == [5, 3]
