"""Patients read on their account who may see their records in their place."""

from datetime import UTC, datetime

from peers.visitor import Pages

from server.access.people import proxies
from server.store.db import micros

_DAY = 86_400_000_000


def test_a_patient_reads_who_may_act_for_her(town: Pages) -> None:
    site = town.site
    now, patient = micros(), site.patients["A"]
    with site.node.database.write() as connection:
        for who, begins, ends in (
            ("staff", now - 1, now + 30 * _DAY),
            ("administrator", now + _DAY, 0),
            ("other", now - 9, now - 1),
        ):
            proxies.begin(connection, account=site.people[who].id, patient=patient, relation="carer", begins=begins, ends=ends)
        stopped = proxies.begin(connection, account=site.people["other"].id, patient=patient, relation="guardian", begins=now)
        proxies.end(connection, stopped.id)
    visitor = town.signed_in("patient")
    (card,) = visitor.tree.xpath("//section[@aria-labelledby='others']")
    rows = [" ".join(each.text_content().split()) for each in card.xpath(".//li")]
    until = datetime.fromtimestamp((now + 30 * _DAY) / 1e6, UTC)
    assert [each.partition(" ")[0] for each in rows] == ["Proxy", "staff@example.org", "administrator@example.org"]
    assert "(your parent)" in rows[0]
    assert "without an end" in rows[0]
    assert rows[1].endswith(f"until {until.day} {until:%B} {until.year}")
    assert "from" in rows[2]
    assert card.xpath(".//a[@href='/account/people']"), "where she ends it"


def test_who_has_nobody_is_told_so_and_who_has_no_records_nothing(town: Pages) -> None:
    assert "Who may act for you Nobody" not in town.signed_in("patient").text
    assert "Who may act for you" not in town.signed_in("practitioner").text
    (card,) = town.signed_in("other").tree.xpath("//section[@aria-labelledby='others']")
    assert "Nobody." in card.text_content()
