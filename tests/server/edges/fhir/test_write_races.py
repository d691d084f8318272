"""Many clients at once against real server processes: what exists once is made once, one version has one successor, nobody is told 5xx."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import httpx2
import pytest
from httpx2 import Response
from peers import imageshare
from peers.imageshare import Running
from peers.shows import shows

Json = dict[str, Any]
CLIENTS = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Running]:
    with imageshare.running(tmp_path_factory.mktemp("races") / "data", module_database_url, http_processes=2) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx2.Client]:
    limits = httpx2.Limits(max_connections=CLIENTS)
    headers = {"Authorization": f"Bearer {server.token()}"}
    with httpx2.Client(base_url=f"{server.http}/fhir", headers=headers, limits=limits, timeout=60) as client:
        yield client


def at_once(asks: list[Callable[[], Response]]) -> list[Response]:
    with ThreadPoolExecutor(len(asks)) as pool:
        answers = list(pool.map(lambda ask: ask(), asks))
    assert [each.text for each in answers if each.status_code >= 500] == []
    return answers


def patient(value: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:example", "value": value}], **more}


def entry(method: str, url: str, resource: Json, **request: str) -> Json:
    return {"resource": resource, "request": {"method": method, "url": url, **request}}


def transaction(*entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def count(client: httpx2.Client, query: str) -> int:
    return int(client.get(f"/Patient?{query}&_summary=count").json()["total"])


@shows("conditional", "create")
def test_fifty_that_create_the_same_make_one(client: httpx2.Client) -> None:
    where = {"If-None-Exist": "identifier=urn:example|race"}
    answers = at_once([lambda: client.post("/Patient", json=patient("race"), headers=where)] * CLIENTS)
    assert sorted(each.status_code for each in answers) == [200] * (CLIENTS - 1) + [201]
    assert len({each.json()["id"] for each in answers}) == 1
    assert count(client, "identifier=urn:example|race") == 1


def test_fifty_that_update_where_nothing_is_make_one(client: httpx2.Client) -> None:
    answers = at_once([lambda: client.put("/Patient?identifier=urn:example|put", json=patient("put"))] * CLIENTS)
    assert sorted(each.status_code for each in answers) == [200] * (CLIENTS - 1) + [201]
    assert count(client, "identifier=urn:example|put") == 1


def test_fifty_that_create_under_one_id_make_one(client: httpx2.Client) -> None:
    answers = at_once([lambda: client.put("/Patient/once", json=patient("once", id="once"))] * CLIENTS)
    assert sorted(each.status_code for each in answers) == [200] * (CLIENTS - 1) + [201]
    assert client.get("/Patient/once").headers["etag"] == 'W/"1"', "all wrote the same"


@shows("header", "If-Match")
def test_a_version_has_one_successor(client: httpx2.Client) -> None:
    client.put("/Patient/match", json=patient("match", id="match"))
    for version in range(1, 6):

        def change(number: int, version: int = version) -> Response:
            body = patient("match", id="match", name=[{"text": f"{version} {number}"}])
            return client.put("/Patient/match", json=body, headers={"If-Match": f'W/"{version}"'})

        answers = at_once([lambda number=number: change(number) for number in range(8)])  # type: ignore[misc]
        assert sorted(each.status_code for each in answers) == [200] + [412] * 7
    assert client.get("/Patient/match").headers["etag"] == 'W/"6"'


@pytest.mark.parametrize("path", ["/Patient/patched", "/Patient?identifier=urn:example|patched"])
def test_fifty_that_patch_the_same_all_do(client: httpx2.Client, path: str) -> None:
    """Each is worked out for the version that it follows, whoever was faster."""
    client.put("/Patient/patched", json=patient("patched", id="patched", name=[{"text": "first"}]))

    def add(number: int) -> Response:
        operation = {"op": "add", "path": "/name/-", "value": {"text": str(number)}}
        return client.patch(path, json=[operation], headers={"Content-Type": "application/json-patch+json"})

    answers = at_once([lambda number=number: add(number) for number in range(CLIENTS)])  # type: ignore[misc]
    assert [each.status_code for each in answers] == [200] * CLIENTS
    names = [each["text"] for each in client.get("/Patient/patched").json()["name"]]
    assert sorted(names[1:], key=int) == [str(number) for number in range(CLIENTS)]


def test_transactions_that_cross_wait_for_each_other(client: httpx2.Client) -> None:
    """They touch the same resources and conditions in opposite orders; a deadlock is settled by the server, not told."""
    names = ["a", "b", "c", "d"]
    for name in names:
        client.put(f"/Patient/cross-{name}", json=patient(name, id=f"cross-{name}"))

    def body(number: int) -> Json:
        order = names if number % 2 else names[::-1]
        changes = [
            entry("PUT", f"Patient/cross-{name}", patient(name, id=f"cross-{name}", name=[{"text": str(number)}]))
            for name in order
        ]
        creates = [entry("POST", "Patient", patient(f"x{name}"), ifNoneExist=f"identifier=urn:example|x{name}") for name in order]
        return transaction(*chain(changes, creates))

    answers = at_once([lambda number=number: client.post("", json=body(number)) for number in range(16)])  # type: ignore[misc]
    assert {each.status_code for each in answers} == {200}
    for name in names:
        assert count(client, f"identifier=urn:example|x{name}") == 1
        assert client.get(f"/Patient/cross-{name}").headers["etag"] == 'W/"17"'
    last = {client.get(f"/Patient/cross-{name}").json()["name"][0]["text"] for name in names}
    assert len(last) == 1, "each transaction was all or nothing"


def test_one_that_fails_spoils_none_of_its_company(client: httpx2.Client) -> None:
    """On SQLite writes that wait at the same moment are one transaction of the database."""
    client.put("/Patient/company", json=patient("company", id="company"))
    good = [lambda number=number: client.post("/Patient", json=patient(f"good{number}")) for number in range(25)]
    bad = [lambda: client.put("/Patient/company", json=patient("x", id="company"), headers={"If-Match": 'W/"9"'})] * 25
    answers = at_once([each for pair in zip(good, bad, strict=True) for each in pair])
    assert sorted(each.status_code for each in answers) == [201] * 25 + [412] * 25
    assert client.get("/Patient/company").headers["etag"] == 'W/"1"'
