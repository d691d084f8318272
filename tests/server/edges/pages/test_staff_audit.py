"""Administrators find in the trail who saw what of whom; what they look at is in the trail itself."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from peers.sharing import events
from peers.visitor import Pages, Visitor

from server.edges.pages.staff_audit import _cell
from server.work import access_history


def looked(town: Pages, **query: str) -> Visitor:
    """Somebody has seen images of A, and an administrator looks who."""
    patient = town.signed_in("patient")
    patient.get("/images")
    study = patient.tree.xpath("//h3/a/@href")[0]
    patient.get(study)
    admin = town.signed_in("administrator")
    admin.get("/staff/audit", **query)
    return admin


def rows(visitor: Visitor) -> list[str]:
    return [" ".join(each.text_content().split()) for each in visitor.tree.xpath("//tbody/tr")]


def test_it_says_who_saw_what_of_whom(town: Pages) -> None:
    admin = looked(town, patient="alba")
    assert all("Anna Alba" in each for each in rows(admin))
    assert any("Patient" in each for each in rows(admin)), "by name, not as another person"
    admin.get("/staff/audit", patient="nobody of this name")
    assert "No patient is found by these words" in admin.text


def test_it_is_found_by_person_and_by_days(town: Pages) -> None:
    account = town.site.people["patient"].id
    admin = looked(town, account=account)
    assert rows(admin)
    assert not any("Administrator" in each for each in rows(admin))
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    for query in ({"from": tomorrow}, {"to": "2020-01-01"}):
        admin.get("/staff/audit", **query)
        assert rows(admin) == ["Nothing was found."]
    admin.get("/staff/audit", **{"from": "2020-01-01", "to": tomorrow})
    assert len(rows(admin)) > 1
    admin.get("/staff/audit", **{"from": "2020-13-45"})
    assert admin.page.status_code == 200, "what is no day is not asked for"


def test_only_what_was_refused(town: Pages) -> None:
    stranger = town.visitor()
    stranger.get("/sign-in")
    stranger.press("Sign in", email="other@example.org", password="not the right one")
    town.site.node.people.events.settled()
    admin = looked(town, refused="yes")
    assert rows(admin)
    assert all("refused" in each or "failed" in each for each in rows(admin))


def test_pages_follow_one_another_without_a_gap(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = looked(town)
    monkeypatch.setattr("server.edges.pages.staff_audit._COUNT", 4)
    monkeypatch.setattr(access_history, "_PART", 3)
    with town.site.node.database.read() as connection:
        whole, _ = access_history.search(connection, access_history.Asked(), None, 30)
    found, place = [], None
    with town.site.node.database.read() as connection:
        while len(found) < 20:
            part, place = access_history.search(connection, access_history.Asked(), place, 4)
            found += part
            if place is None:
                break
    assert [(each.event, each.place) for each in found[:20]] == [(each.event, each.place) for each in whole[: len(found[:20])]]
    admin.get("/staff/audit")
    assert len(rows(admin)) == 4
    admin.get(str(admin.tree.xpath("//a[normalize-space()='Earlier']/@href")[0]))
    assert admin.page.status_code == 200


def test_a_search_that_finds_little_ends_and_goes_on(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    looked(town)
    monkeypatch.setattr(access_history, "MOST_READ", 6)
    monkeypatch.setattr(access_history, "_PART", 3)
    asked = access_history.Asked(account="nobody")
    with town.site.node.database.read() as connection:
        found, place = access_history.search(connection, asked, None, 50)
    assert (found, place is not None) == ((), True)


def test_it_is_taken_along_as_a_table(town: Pages) -> None:
    admin = looked(town, patient="alba")
    admin.get(str(admin.tree.xpath("//a[normalize-space()='Download as a table']/@href")[0]))
    assert admin.page.headers["content-type"].startswith("text/csv")
    assert admin.page.headers["cache-control"] == "no-store"
    head, *lines = csv.reader(io.StringIO(admin.page.text))
    assert head[-1] == "AuditEvent"
    assert lines
    assert all(each[4] == "Anna Alba" for each in lines)


@pytest.mark.parametrize(("text", "written"), [("=1+1", "'=1+1"), ("@x", "'@x"), ("-", "'-"), ("plain", "plain"), ("", "")])
def test_no_spreadsheet_runs_a_name(text: str, written: str) -> None:
    assert _cell(text) == written


def test_to_look_is_in_the_trail(town: Pages) -> None:
    before = len(events(town))
    looked(town, patient="alba")
    queries = [each for each in events(town)[: len(events(town)) - before] if "QXVkaXRFdmVudA" in str(each.get("entity", ""))]
    assert queries, "AuditEvent, in base64"
    assert town.site.people["administrator"].id in str(queries[0]["agent"])
