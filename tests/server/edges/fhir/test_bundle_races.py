"""Bundles of the same content in opposite orders, at once, on PostgreSQL: they wait for each other, and never in a ring."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site
from sqlalchemy import make_url, text

from server.work.fhir import conditional

CLIENTS, ENTRIES = 4, 30
Json = dict[str, Any]


@pytest.fixture
def site(tmp_path: Path, postgresql_database: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", postgresql_database) as site:
        yield site


def entry(method: str, url: str, resource: Json, **request: str) -> Json:
    return {"resource": resource, "request": {"method": method, "url": url, **request}}


def patient(number: int, system: str = "urn:example", **more: Any) -> Json:
    return {"resourceType": "Patient", "identifier": [{"system": system, "value": str(number)}], **more}


def if_none_exist(number: int, client: int) -> Json:
    return entry("POST", "Patient", patient(number), ifNoneExist=f"identifier=urn:example|{number}")


def conditional_update(number: int, client: int) -> Json:
    return entry("PUT", f"Patient?identifier=urn:example|{number}", patient(number, name=[{"text": str(client)}]))


def put(number: int, client: int) -> Json:
    return entry("PUT", f"Patient/p{number}", patient(number, id=f"p{number}", name=[{"text": str(client)}]))


def identified(number: int, client: int) -> Json:
    """No condition, but an identifier that one Patient may have (`business_identifiers`)."""
    return entry("POST", "Patient", patient(number, "urn:oid:1.2.3"))


def deadlocks(site: FhirSite) -> int:
    """Those that PostgreSQL has ever logged."""
    (home,) = make_url(site.node.settings.database).normalized_query["host"]
    return (Path(home) / "log").read_text(errors="replace").count("deadlock detected")


def at_once(site: FhirSite, kind: str, made: Callable[[int, int], Json]) -> list[list[str]]:
    """The statuses that each client is told; half of them send the entries in the opposite order."""

    def send(client: int) -> list[str]:
        entries = [made(number, client) for number in range(ENTRIES)][:: 1 if client % 2 else -1]
        response = site.ask("POST", "", token, body={"resourceType": "Bundle", "type": kind, "entry": entries})
        if response.status_code != 200:
            return [str(response.status_code)]
        return [each["response"]["status"][:3] for each in response.json()["entry"]]

    token = site.token()
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(send, range(CLIENTS)))


@pytest.mark.parametrize(("kind", "made"), [
    ("batch", if_none_exist), ("batch", conditional_update), ("batch", put), ("batch", identified),
    ("transaction", if_none_exist), ("transaction", conditional_update), ("transaction", put),
])  # fmt: skip
def test_no_ring_of_bundles(site: FhirSite, kind: str, made: Callable[[int, int], Json]) -> None:
    before = deadlocks(site)
    told = at_once(site, kind, made)
    assert deadlocks(site) == before
    found = [status for each in told for status in each]
    assert found.count("201") == ENTRIES
    assert set(found) <= ({"201", "409"} if made is identified else {"200", "201"})
    assert site.bundle("Patient?_summary=count")["total"] == ENTRIES


def test_locks_of_very_many_are_one(site: FhirSite) -> None:
    """PostgreSQL's table of locks has room for max_locks_per_transaction (64) times max_connections, whoever wants them."""
    count = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
    for wanted, held in ((0, 0), (3, 4), (10_000, 1)):
        with site.node.database.write() as connection:
            conditional.lock(connection, [("Patient", f"_id={number}") for number in range(wanted)])
            assert connection.execute(count).scalar_one() == held
