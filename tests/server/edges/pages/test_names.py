"""What a person is called to others: nobody who sees the records of others chooses what these read about it."""

import pytest
from peers.visitor import Pages

from server.access.people import proxies
from server.errors import Forbidden
from server.store.db import micros


@pytest.mark.parametrize("who", ["practitioner", "staff", "administrator", "proxy"])
def test_who_has_looked_does_not_choose_how_the_patient_reads_of_it(town: Pages, who: str) -> None:
    site = town.site
    token = site.tokens("public", "user/*.rs", who=who)["access_token"]
    assert site.fhir(f"Patient/{site.patients['A']}", token).status_code == 200
    patient, snoop = town.signed_in("patient", "/account/activity"), town.signed_in(who)
    assert "Save the name" not in snoop.text
    assert "only Riverside Hospital can change it" in snoop.text
    forged = {"csrf": snoop.tree.xpath("//input[@name='csrf']/@value")[0], "full-name": "Your family doctor"}
    answer = snoop.http.post("/account/name", data=forged, headers={"Origin": site.base})
    assert answer.status_code == 403
    assert "ask us to change it" in answer.text
    patient.get("/account/activity")
    assert "Your family doctor" not in patient.text


def test_a_patient_who_acts_for_another_does_not_either(town: Pages) -> None:
    site = town.site
    people, other = site.node.people, site.people["other"]
    with site.node.database.write() as connection:
        begun = proxies.begin(connection, account=other.id, patient=site.patients["A"], relation="carer", begins=micros())
        proxies.end(connection, begun.id)
    with pytest.raises(Forbidden):
        people.profile.rename(site.session("other"), "Your family doctor", "192.0.2.1")
    people.profile.rename(site.session("patient"), "Anna A.", "192.0.2.1")
