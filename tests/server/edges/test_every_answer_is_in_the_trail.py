"""Abuse case 25: every answer with patient data has exactly one event for each patient, and every refusal; none is given that cannot be told.

The rows are those of the routers themselves (`peers.every_route`): a route that has no request there fails.
"""

from collections.abc import Iterator

import orjson
import pytest
from fastapi import FastAPI
from peers.every_route import CANARIES, ROWS, STUDY, Site, calling, everything
from peers.smart_site import smart_site
from starlette.routing import Route

from server.edges import dicomweb
from server.edges.fhir.routes import INTERACTIONS
from server.edges.soap.routes import ENDPOINTS

EVERY = pytest.mark.parametrize("row", sorted(ROWS), ids=" ".join)


def _routes() -> set[tuple[str, str]]:
    """Of the three edges, as their own tables have them."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    dicomweb.routes.add_routes(app)
    images = {
        (method, route.path) for route in app.routes if isinstance(route, Route) for method in (route.methods or ()) if method != "HEAD"
    }  # fmt: skip
    resources = {(each.method, f"/fhir{each.path}") for each in INTERACTIONS} | {
        ("POST", "/fhir/Binary"),
        ("PUT", "/fhir/Binary/{id}"),
    }
    return images | resources | {("POST", path) for path in ENDPOINTS}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with smart_site(tmp_path_factory.mktemp("every") / "data", imaging_capability_urls=True) as smart:
        yield everything(smart)


def test_each_route_has_its_row() -> None:
    assert _routes() == set(ROWS), "a route without a row here, or a row without a route"


@EVERY
def test_an_answer_is_in_the_trail_of_each_patient_once(site: Site, row: tuple[str, str]) -> None:
    asked = ROWS[row](site)
    with site.events() as events:
        found = site.ask(site.system, asked, calling(site, row))
    assert 200 <= found.status_code < 300, found.text[:500]
    if asked.concerned is None:
        assert not any(canary in found.text for canary in CANARIES)
        return
    told = sorted(each.patient for each in events)
    assert told == sorted(site.smart.patients[each] for each in asked.concerned) or (told, asked.concerned) == ([""], ""), [
        orjson.loads(e.body) for e in events
    ]
    assert {orjson.loads(each.body)["outcome"] for each in events} == {"0"}


@EVERY
def test_another_patient_is_told_nothing_and_the_attempt_is_in_the_trail(site: Site, row: tuple[str, str]) -> None:
    asked = ROWS[row](site)
    with site.events() as events:
        found = site.ask(site.theirs, asked, calling(site, row, "203.0.113.9"))
    assert found.status_code < 500
    assert not any(canary in found.text for canary in CANARIES)
    of_a = [each for each in events if each.patient == site.a]
    assert all(orjson.loads(each.body)["outcome"] == "4" for each in of_a)
    if asked.concerned is None:
        return
    assert len(events) == 1, [orjson.loads(each.body) for each in events]
    refused = found.status_code in (401, 403)
    assert orjson.loads(events[0].body)["outcome"] == "4" or not refused
    if asked.named:
        assert refused
        assert of_a, "whose data it was is not in the trail"


@EVERY
def test_nothing_is_told_that_the_trail_cannot_have(site: Site, row: tuple[str, str]) -> None:
    asked = ROWS[row](site)
    if asked.concerned is None:
        return
    database = site.smart.node.database
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_event RENAME TO away")
    try:
        found = site.ask(site.system, asked, calling(site, row))
    finally:
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_event")
    assert found.status_code >= 500 or row in {("POST", "/dicomweb/studies"), ("POST", STUDY)}, found.text[:300]
    assert not any(canary in found.text for canary in CANARIES)
