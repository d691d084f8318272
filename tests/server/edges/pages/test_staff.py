"""The desk: staff find a study, issue a code for its patient, and end it; nobody else does."""

import re

import orjson
import pytest
from peers.visitor import Pages, Visitor

from server.access import codes
from server.store.db import micros
from server.worker import Worker

BORN = {"day": "29", "month": "2", "year": "1960"}


def at_desk(town: Pages) -> Visitor:
    visitor = town.signed_in("staff")
    visitor.get("/staff")
    return visitor


def issued(town: Pages, **fields: str) -> tuple[Visitor, str]:
    staff = at_desk(town)
    staff.get(f"/staff/patients/{town.site.patients['A']}")
    staff.press("Issue the code", **fields)
    return staff, str(staff.tree.xpath("//p[@class='secret']/text()")[0])


def test_the_worklist_finds_studies_by_name_and_number(town: Pages) -> None:
    staff = at_desk(town)
    assert len(staff.tree.xpath("//tbody/tr")) == 3
    staff.get("/staff", search="alba")
    assert len(staff.tree.xpath("//tbody/tr")) == 2
    assert "Anna Alba" in staff.text
    assert "Bert Berg" not in staff.text
    staff.get("/staff", search="nobody at all")
    assert "Nothing was found" in staff.text


def test_a_code_is_issued_printed_and_claimed(town: Pages) -> None:
    staff, text = issued(town)
    assert re.fullmatch(r"([0-9A-Z]{4}-){3}[0-9A-Z]", text)
    assert staff.tree.xpath("//div[@class='qr']/*[local-name()='svg']")
    patient = town.visitor()
    patient.get("/claim")
    patient.press("Show my images", code=text, **BORN)
    assert "Your images" in patient.text
    staff.get(f"/staff/patients/{town.site.patients['A']}")
    assert "Opened, without an account" in staff.text
    assert text not in staff.text, "a code is shown once"


def test_a_code_goes_by_e_mail(town: Pages) -> None:
    _, text = issued(town, email="anna@example.org")
    Worker(town.site.node).once()
    assert text in town.letter()
    with town.site.node.database.read() as connection:
        assert not any(each.letter for each in codes.of_patients(connection, [town.site.patients["A"]])), (
            "sealed until it is sent, then gone"
        )


def test_what_is_ended_opens_nothing(town: Pages) -> None:
    staff, text = issued(town)
    staff.get(f"/staff/patients/{town.site.patients['A']}")
    with town.site.node.database.read() as connection:
        newest = codes.of_patients(connection, [town.site.patients["A"]])[0]
    csrf = staff.tree.xpath("//input[@name='csrf']/@value")[0]
    answer = staff.http.post(f"/staff/codes/{newest.id}/end", data={"csrf": csrf}, headers={"Origin": town.site.base})
    assert answer.status_code == 303
    patient = town.visitor()
    patient.get("/claim")
    patient.press("Show my images", code=text, **BORN)
    assert patient.page.status_code == 403
    with town.site.node.database.read() as connection:
        found = codes.find(connection, newest.id)
    assert found is not None
    assert found.state(micros()) == "ended"


@pytest.mark.parametrize("who", ["patient", "proxy", "practitioner"])
def test_it_is_for_staff(town: Pages, who: str) -> None:
    visitor = town.signed_in(who)
    for path in ("/staff", f"/staff/patients/{town.site.patients['A']}"):
        assert visitor.get(path).status_code == 403
        refused = town.site.events()[0]
        assert (refused["outcome"], refused["outcomeDesc"]) == ("4", "this page is for the staff of the site")
        assert town.site.patients["A"] not in orjson.dumps(refused["entity"]).decode(), "a path may have what is nobody's to read"
    csrf = visitor.http.get("/account").text.partition('name="csrf" value="')[2].partition('"')[0]
    for path in (f"/staff/patients/{town.site.patients['A']}/codes", "/staff/codes/x/end"):
        assert visitor.http.post(path, data={"csrf": csrf}, headers={"Origin": town.site.base}).status_code == 403


def test_nobody_gets_a_code_who_is_not_there(town: Pages) -> None:
    staff = at_desk(town)
    assert staff.get("/staff/patients/nobody").status_code == 404
