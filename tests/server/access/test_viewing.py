"""What a page that shows images may ask for: of whom, which studies, and until when."""

from collections.abc import Iterator

import pytest
from peers.smart_site import SmartSite, smart_site

from server.access.oauth import clients, granting
from server.access.oauth.granting import Granted
from server.access.rights import SHARED
from server.access.viewing import Ticket
from server.errors import Unauthenticated
from server.store.db import micros

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmartSite]:
    with smart_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


def _shared(site: SmartSite, *, reports: bool = False, until: int = HOUR) -> Granted:
    with site.node.database.write() as connection:
        return site.node.viewing.for_share(
            connection, "s1", site.patients["A"], site.studies["A"][:1], micros() + until, reports=reports, taking=False
        )


def _ticket(site: SmartSite, granted: Granted) -> Ticket:
    with site.node.database.write() as connection:
        return site.node.viewing.ticket(connection, granted)


def _renewed(site: SmartSite, handle: str) -> Ticket:
    with site.node.database.write() as connection:
        return site.node.viewing.renewed(connection, handle)


def _status(site: SmartSite, token: str, path: str) -> int:
    return int(site.http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code)


def _study(site: SmartSite, patient: str, place: int) -> str:
    return f"/dicomweb/studies/{site.studies[patient][place]}/metadata"


def test_a_share_opens_its_studies_and_no_others(site: SmartSite) -> None:
    token = _ticket(site, _shared(site)).token
    assert _status(site, token, _study(site, "A", 0)) == 200
    assert _status(site, token, _study(site, "A", 1)) in (403, 404)
    assert _status(site, token, _study(site, "B", 0)) in (403, 404)
    assert _status(site, token, "/fhir/DiagnosticReport") == 403, "no reports are shared"
    assert _status(site, _ticket(site, _shared(site, reports=True)).token, "/fhir/DiagnosticReport") == 200


def test_it_writes_nothing(site: SmartSite) -> None:
    token = _ticket(site, _shared(site, reports=True)).token
    for type_ in ("ImagingStudy", "Consent", "DiagnosticReport"):
        answer = site.http.post(f"/fhir/{type_}", json={"resourceType": type_}, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 403, type_


def test_what_has_ended_opens_nothing_from_then_on(site: SmartSite) -> None:
    granted = _shared(site)
    ticket = _ticket(site, granted)
    assert _status(site, ticket.token, _study(site, "A", 0)) == 200
    with site.node.database.write() as connection:
        granting.end(connection, granted.id, "the share was stopped")
    assert _status(site, ticket.token, _study(site, "A", 0)) == 401
    with pytest.raises(Unauthenticated):
        _renewed(site, ticket.handle)


def test_a_handle_gives_the_next_token_and_nothing_else_does(site: SmartSite) -> None:
    ticket = _ticket(site, _shared(site))
    again = _renewed(site, ticket.handle)
    assert again.token != ticket.token
    assert _status(site, again.token, _study(site, "A", 0)) == 200
    for wrong in ("", "x", ticket.handle[:-2], ticket.token):
        with pytest.raises(Unauthenticated):
            _renewed(site, wrong)
    assert ticket.token not in repr(ticket)
    assert ticket.handle not in repr(ticket)


def test_who_holds_an_access_code_sees_its_studies(site: SmartSite) -> None:
    with site.node.database.write() as connection:
        granted = site.node.viewing.for_code(connection, "c1", site.patients["A"], site.studies["A"][1:], micros() + HOUR)
    token = _ticket(site, granted).token
    assert _status(site, token, _study(site, "A", 1)) == 200
    assert _status(site, token, _study(site, "A", 0)) in (403, 404)


def test_a_page_of_somebody_signed_in_ends_with_the_session(site: SmartSite) -> None:
    session = site.session("patient")
    with site.node.database.write() as connection:
        ticket = site.node.viewing.for_session(connection, session, site.patients["A"], site.studies["A"][:1], micros() + HOUR)
        other = site.node.viewing.for_session(connection, session, site.patients["B"], site.studies["B"], micros() + HOUR)
    assert _status(site, ticket.token, _study(site, "A", 0)) == 200
    assert _status(site, other.token, _study(site, "B", 0)) in (401, 403, 404), "not of whom the person does not reach"
    site.node.people.sign_out(session, "192.0.2.1")
    assert _status(site, ticket.token, _study(site, "A", 0)) == 401
    with pytest.raises(Unauthenticated):
        _renewed(site, ticket.handle)


def test_one_switch_closes_all_shares(site: SmartSite) -> None:
    token = _ticket(site, _shared(site)).token
    with site.node.database.write() as connection:
        clients.disable(connection, SHARED)
    try:
        assert _status(site, token, _study(site, "A", 0)) == 401
    finally:
        with site.node.database.write() as connection:
            clients.disable(connection, SHARED, disabled=False)
    assert _status(site, token, _study(site, "A", 0)) == 200
