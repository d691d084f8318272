"""Who was merged into another sees one list, as herself, with her name; and so does who was merged into."""

from pathlib import Path

import pytest
from peers.visitor import Pages, pages

from profiles.audit_event import Agent
from server.access.people import proxies
from server.records import belonging
from server.records.catalogue import PATIENT
from server.store.db import micros
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler

ON_BOTH_ENGINES = True


@pytest.mark.parametrize(("source", "target"), [("A", "B"), ("B", "A")])
def test_a_list_after_a_merge(tmp_path: Path, source: str, target: str) -> None:
    with pages(tmp_path / "data") as town:
        a, b = (town.site.patients[each] for each in "AB")
        mine = town.site.tokens(scope="patient/*.rs launch/patient", who="patient")["access_token"]
        theirs = town.site.tokens(scope="patient/*.rs launch/patient", who="other", patient=b)["access_token"]
        assert town.site.fhir(f"Patient/{a}", mine).status_code == 200
        assert town.site.fhir(f"ImagingStudy?patient={b}", theirs).status_code == 200
        with town.site.node.database.write() as connection:
            proxies.begin(connection, account=town.site.people["proxy"].id, patient=b, relation="parent", begins=micros() - 1)
        merge(town, source, target)
        said = town.signed_in("patient", "/account/activity").text
        assert "You: looked at personal details" in said
        assert "You: searched for imaging studies" in said
        assert "(–)" not in said
        assert "(–)" not in town.signed_in("proxy", "/account/activity").text


def test_numbers_are_those_of_who_was_merged_too_and_none_that_was_made_up(tmp_path: Path) -> None:
    with pages(tmp_path / "data") as town:
        a, b = (town.site.patients[each] for each in "AB")
        merge(town, "A", "B")
        with town.site.node.database.write() as connection:
            made_up = PATIENT.update().where(PATIENT.c.id == a).values(value=town.site.studies["A"][0])
            assert belonging.numbers(connection, b) == ("B", "A")
            assert belonging.numbers(connection, a) == ("A",)
            connection.execute(made_up)
            assert belonging.numbers(connection, b) == ("B",)


def merge(town: Pages, source: str, target: str) -> None:
    node, patients = town.site.node, town.site.patients
    reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
    corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
    corrector.merge(patients[source], patients[target], actor=Actor(Agent(identifier="imageshare merge")))
