"""After a merge the list of who survives has what was done before to whom was merged into her; and pages hold while events come in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.smart_site import SmartSite, smart_site

from profiles.audit_event import Agent
from server.records import belonging
from server.work.access_history import rows
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler

ON_BOTH_ENGINES = True


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[SmartSite]:
    with smart_site(tmp_path / "data", database_url) as made:
        yield made


def merge(site: SmartSite, source: str, target: str) -> None:
    node = site.node
    reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
    corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
    corrector.merge(site.patients[source], site.patients[target], actor=Actor(Agent(identifier="imageshare merge")))


def told(site: SmartSite, token: str, patient: str, query: str = "") -> list[dict[str, Any]]:
    found = site.fhir(f"Patient/{site.patients[patient]}/$access-history{query}", token)
    assert found.status_code == 200, found.text
    return [
        {part["name"]: next(value for name, value in part.items() if name.startswith("value")) for part in each["part"]}
        for each in found.json()["parameter"]
        if each["name"] == "access"
    ]


def test_what_was_before_the_merge_is_in_the_list_of_who_survives(site: SmartSite) -> None:
    a, b = site.patients["A"], site.patients["B"]
    staff = str(site.tokens("public", "user/*.rs", "staff")["access_token"])
    assert site.fhir(f"Patient/{b}/$everything", staff).status_code == 200
    theirs = str(site.tokens("public", "patient/*.rs", "other", patient=b)["access_token"])
    assert site.fhir(f"Patient/{a}", theirs).status_code == 403
    assert site.fhir(f"Patient/{b}", theirs).status_code == 200
    mine = str(site.tokens("public", "patient/*.rs", "patient")["access_token"])
    assert "asked for everything in the record" not in {each["what"] for each in told(site, mine, "A")}
    merge(site, "B", "A")
    mine = str(site.tokens("public", "patient/*.rs", "patient")["access_token"])
    found = told(site, mine, "A", "?_count=500")
    (everything,) = [each for each in found if each["what"] == "asked for everything in the record"]
    assert everything["who"] == "Staff"
    assert "event" not in everything, "that AuditEvent is of a Patient whom this token does not open"
    looked = [(each["who"], each["outcome"]) for each in found if each["what"] == "looked at personal details"]
    assert ("the patient", "refused") in looked, "who was another person until then is the same one"
    assert ("the patient", "allowed") in looked
    assert all("event" in each for each in told(site, staff, "B"))


def test_of_several_who_were_merged_one_after_the_other(site: SmartSite) -> None:
    merge(site, "B", "A")
    with site.node.database.read() as connection:
        a, b = site.patients["A"], site.patients["B"]
        assert belonging.former(connection, a) == {b}
        assert belonging.former(connection, b) == frozenset()
        of_a = rows(connection, [a], None, 500)
        assert {each.patient for each in of_a} == {a}
        assert any(each.is_former for each in of_a)
        of_both = rows(connection, [a, b], None, 500)
        assert {each.patient for each in of_both} == {a, b}
        assert not any(each.is_former for each in of_both)
        assert [each.event for each in of_both] == [each.event for each in of_a]


def test_a_page_goes_on_where_it_ended_while_events_come_in(site: SmartSite) -> None:
    mine = str(site.tokens("public", "patient/*.rs", "patient")["access_token"])
    path = f"Patient/{site.patients['A']}"
    for _ in range(5):
        site.fhir(path, mine)
    whole = [each["event"]["reference"] for each in told(site, mine, "A", "?_count=500")]
    seen: list[str] = []
    found = site.fhir(f"{path}/$access-history?_count=2", mine).json()["parameter"]
    while True:
        seen += [part["valueReference"]["reference"] for each in found if each["name"] == "access" for part in each["part"] if part["name"] == "event"]  # fmt: skip
        following = [each["valueUrl"] for each in found if each["name"] == "next"]
        if not following:
            break
        assert site.fhir(path, mine).status_code == 200, "an event more"
        found = site.fhir(following[0].partition("/fhir/")[2], mine).json()["parameter"]
    assert seen[-len(whole) :] == whole, "none was told twice, and none was left out"
    assert len(set(seen)) == len(seen) == len(whole) + 1, "but the first page's own event"
