"""Who saw the records, for those whose records they are."""

from typing import Any

import orjson
from peers.visitor import Pages

from profiles.audit_event import DISCLOSED, EMERGENCY_STARTED, REFUSED, REST_READ, Agent, AuditedAction, AuditedEntity
from server.access.people import proxies
from server.records import trail
from server.store.db import micros


def _events(town: Pages, patient: str) -> int:
    with town.site.node.database.read() as connection:
        found = [orjson.loads(each.body) for each in trail.events(connection, limit=1000)]
    wanted = f"Patient/{patient}"
    return sum(any(each.get("what", {}).get("reference") == wanted for each in event.get("entity", ())) for event in found)


def test_a_patient_sees_who_looked_and_who_was_refused(town: Pages) -> None:
    a, b = town.site.patients["A"], town.site.patients["B"]
    mine = town.site.tokens(scope="patient/*.rs launch/patient", who="patient")["access_token"]
    theirs = town.site.tokens(scope="patient/*.rs launch/patient", who="other", patient=b)["access_token"]
    assert town.site.fhir(f"Patient/{a}", mine).status_code == 200
    assert town.site.fhir(f"Patient/{a}", theirs).status_code in (403, 404)
    visitor = town.signed_in("patient", "/account/activity")
    assert "A public app" in visitor.text
    assert "refused" in visitor.text
    assert "You: looked at personal details" in visitor.text
    assert "Another person: looked at personal details" in visitor.text
    assert "Berg" not in visitor.text
    assert b not in visitor.page.text


def test_emergencies_and_disclosures_are_told_in_plain_words(town: Pages) -> None:
    ours, doctor = town.site.node.trail, Agent(identifier=town.site.people["practitioner"].id, reference="Practitioner/p1")
    client = Agent(identifier="public", address="192.0.2.1", user=doctor, purposes=("BTG",))
    about: dict[str, Any] = {
        "rest": False,
        "patient_id": town.site.patients["A"],
        "entities": (AuditedEntity(reference="ImagingStudy/x"),),
    }
    ours.write(
        ours.action("security", EMERGENCY_STARTED, client, **about),
        ours.action("security", EMERGENCY_STARTED, client, outcome=REFUSED, **about),
        ours.action("export", DISCLOSED, Agent(identifier="secret", address="192.0.2.2"), **about),
    )
    said = town.signed_in("patient", "/account/activity").text
    assert said.count("Practitioner: began emergency access") == 2
    assert "with A public app · emergency access refused" in said
    assert "An app with a secret: passed records on" in said


def test_to_look_at_it_is_in_it(town: Pages) -> None:
    patient = town.site.patients["A"]
    visitor = town.signed_in("patient")
    before = _events(town, patient)
    visitor.get("/account/activity")
    assert _events(town, patient) == before + 1
    assert "looked at this list" in visitor.get("/account/activity").text


def test_what_one_looked_at_oneself_again_and_again_is_one_line_a_day_and_what_others_did_is_not(town: Pages) -> None:
    a, ours = town.site.patients["A"], town.site.node.trail
    events: list[AuditedAction] = []
    for number in range(4):
        for who in ("other", "patient"):
            reader = Agent(identifier="public", address="192.0.2.1", user=Agent(identifier=town.site.people[who].id))
            events += [
                ours.action("read", REST_READ, reader, patient_id=a, entities=(AuditedEntity(reference=f"Condition/{number}"),))
            ]
    ours.write(*events)
    visitor = town.signed_in("patient", "/account/activity")
    lines = [" ".join(each.text_content().split()) for each in visitor.tree.xpath("//main//li")]
    (mine,) = [line for line in lines if line.startswith("You: looked at diagnoses")]
    assert "4 times" in mine
    assert sum(line.startswith("Another person: looked at diagnoses") for line in lines) == 4


def test_it_goes_on_page_by_page(town: Pages) -> None:
    token = town.site.tokens(scope="patient/*.rs launch/patient", who="patient")["access_token"]
    for _ in range(30):
        town.site.fhir(f"Patient/{town.site.patients['A']}", token)
    visitor = town.signed_in("patient", "/account/activity")
    first = visitor.page.text
    earlier = next(each for each in visitor.tree.xpath("//main//a") if each.text_content() == "Earlier")
    visitor.get(earlier.get("href"))
    assert visitor.page.status_code == 200
    assert visitor.page.text != first
    assert visitor.tree.xpath("//main//a[text()='Newest']")


def test_what_is_no_place_begins_at_the_newest(town: Pages) -> None:
    visitor = town.signed_in("patient")
    for place in ("x", "1-2", "-1-2-3", "1-2-3-4", "9" * 40):
        assert visitor.get("/account/activity", before=place).status_code == 200


def test_who_looks_after_two_sees_whose_records_it_was(town: Pages) -> None:
    with town.site.node.database.write() as connection:
        proxy = town.site.people["proxy"].id
        proxies.begin(connection, account=proxy, patient=town.site.patients["B"], relation="parent", begins=micros() - 1)
    visitor = town.signed_in("proxy", "/account/activity")
    visitor.get("/account/activity")
    assert "(Anna Alba)" in visitor.text
    assert "(Bert Berg)" in visitor.text


def test_professionals_have_no_records_of_their_own(town: Pages) -> None:
    visitor = town.signed_in("practitioner", "/account/activity")
    assert "No records are connected to your account" in visitor.text
