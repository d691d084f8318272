"""A Binary is its security context's by every way that leads to it: by itself, in Bundles, in operations, in what a search brings along."""

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from sqlalchemy import text

from server.access.decisions import Decision, parse_scopes
from server.errors import Forbidden
from server.work.fhir import binary as work
from server.work.fhir.caller import Caller

ON_BOTH_ENGINES = True
SECRET = base64.b64encode(b"what was found").decode()
TEXT = {"Content_Type": "text/plain"}


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put(
            {"resourceType": "Patient", "id": "a"},
            {"resourceType": "Patient", "id": "b"},
            *(
                {"resourceType": "DocumentReference", "id": f"d{of}", "status": "current", "subject": {"reference": f"Patient/{of}"},
                    "content": [{"attachment": {"url": "Binary/x"}}]}
                for of in "ab"
            ),
        )  # fmt: skip
        yield site


def inline(id_: str = "", of: str = "a", **more: Any) -> dict[str, Any]:
    named = {"id": id_} if id_ else {}
    context = {"securityContext": {"reference": f"DocumentReference/d{of}"}} if of else {}
    return {"resourceType": "Binary", **named, "contentType": "text/plain", **context, "data": SECRET, **more}


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **request: str) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    return {**made, "resource": resource} if resource else made


def bundle(*entries: dict[str, Any], kind: str = "batch") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def told(event: dict[str, Any]) -> list[str]:
    return [each["what"]["reference"] for each in event["entity"] if "reference" in each.get("what", {})]


def await_waiting(site: FhirSite) -> None:
    """Returns once somebody waits for a lock in PostgreSQL; in SQLite a second writer has not begun."""
    database = site.node.database
    for _ in range(1000):
        with database.read() as connection:
            if connection.dialect.name == "sqlite" or connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


# --- in


def test_a_context_that_is_deleted_is_told_as_one(site: FhirSite) -> None:
    """The same is said of her own that is no more, of another patient's and of none at all."""
    mine = site.token("patient/*.cruds", "a")
    site.delete("DocumentReference", "da")
    said = {
        issue(site.ask("POST", "Binary", mine, body=b"x", X_Security_Context=context, **TEXT), 403, "forbidden")["diagnostics"]
        for context in ("DocumentReference/da", "DocumentReference/db", "DocumentReference/none", "Patient/b")
    }
    assert len(said) == 1
    assert "not deleted" in said.pop()
    assert site.ask("POST", "Binary", mine, body=b"x", X_Security_Context="Patient/a", **TEXT).status_code == 201


# --- out


@pytest.mark.parametrize("url", ["Binary/sec", "Binary/sec/_history/1"])
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_bundle_reads_it_as_its_context_is_read(site: FhirSite, url: str, kind: str) -> None:
    site.put(inline("sec"))
    asked = bundle(entry("GET", url), kind=kind)
    closed = site.ask("POST", "", site.token("user/Binary.rs"), body=asked)
    status = closed.json()["entry"][0]["response"]["status"][:3] if kind == "batch" else str(closed.status_code)
    assert status == "403"
    assert SECRET not in closed.text
    mark = site.mark()
    (found,) = site.ask("POST", "", site.token("patient/DocumentReference.r", "a"), body=asked).json()["entry"]
    assert found["response"]["status"] == "200 OK"
    assert found["response"]["etag"] == 'W/"1"'
    assert found["resource"]["data"] == SECRET
    (event,) = site.events(mark)
    assert told(event) == [url, "Patient/a"]


def test_a_bundle_has_no_room_for_what_is_a_file(site: FhirSite) -> None:
    id_ = site.ask("POST", "Binary", body=b"x", **TEXT).json()["id"]
    (found,) = site.ask("POST", "", body=bundle(entry("GET", f"Binary/{id_}"))).json()["entry"]
    assert found["response"]["status"][:3] == "501"
    assert "resource" not in found
    told = found["response"]["outcome"]["issue"][0]
    assert told["code"] == "not-supported"
    assert "by itself" in told["diagnostics"]
    (closed,) = site.ask("POST", "", site.token("patient/*.r", "a"), body=bundle(entry("GET", f"Binary/{id_}"))).json()["entry"]
    assert closed["response"]["status"][:3] == "403"


@pytest.mark.parametrize("include", ["List:item", "*"])
def test_no_search_brings_it_along(site: FhirSite, include: str) -> None:
    site.put(
        inline("sec"),
        {"resourceType": "List", "id": "l", "status": "current", "mode": "working", "entry": [{"item": {"reference": "Binary/sec"}}]},
    )  # fmt: skip
    for token in (site.token("user/Binary.rs user/List.rs"), site.token()):
        assert site.ids(f"List?_include={include}", token) == ["l"]
        assert site.ids(f"List?_include={include}", token, mode="include") == []
    assert site.ids("List?item=Binary/sec") == ["l"]
    assert site.ids("List?item:Binary._id=sec") == []  # who chains searches, and a Binary is not searched


def test_of_operations_it_has_but_the_check_of_what_is_sent(site: FhirSite) -> None:
    site.put(inline("sec"))
    issue(site.get("Binary/sec/$meta"), 404, "not-supported")
    (has,) = [each for each in site.get("metadata").json()["rest"][0]["resource"] if each["type"] == "Binary"]
    assert [each["name"] for each in has["operation"]] == ["validate"]
    for of, code in (("a", "informational"), ("none", "not-found")):
        asked = [{"name": "mode", "valueCode": "create"}, {"name": "resource", "resource": inline(of=of)}]
        said = site.ask("POST", "Binary/$validate", body={"resourceType": "Parameters", "parameter": asked})
        assert [each["code"] for each in said.json()["issue"]] == [code]


def test_a_version_is_for_those_who_may_read_what_it_was_and_what_it_is(site: FhirSite) -> None:
    site.put(inline("moved"))
    site.put(inline("moved", of="b"))
    a, b, both = site.token("patient/*.rs", "a"), site.token("patient/*.rs", "b"), site.token("user/DocumentReference.r")
    issue(site.get("Binary/moved", a), 403, "forbidden")
    assert site.get("Binary/moved", b).status_code == 200
    for token in (a, b):
        issue(site.get("Binary/moved/_history/1", token), 403, "forbidden")
    mark = site.mark()
    assert site.get("Binary/moved/_history/1", both).status_code == 200
    assert sorted(told(each)[1] for each in site.events(mark)) == ["Patient/a", "Patient/b"]


def test_what_is_not_there_is_as_what_is_another_patients(site: FhirSite) -> None:
    site.put(inline("hers", of="b"), inline("gone", of="b"), inline("mine", of="a"))
    for id_ in ("gone", "mine"):
        site.delete("Binary", id_)
    mine = site.token("patient/*.cruds", "a")
    for url in (
        "Binary/hers",
        "Binary/gone",
        "Binary/gone/_history/1",
        "Binary/gone/_history/2",
        "Binary/none",
        "Binary/none/_history/1",
    ):
        assert site.get(url, mine).json() == site.get("Binary/hers", mine).json(), url
        assert site.ask("DELETE", url.split("/_")[0], mine).json() == site.ask("DELETE", "Binary/hers", mine).json(), url
    mark = site.mark()
    issue(site.get("Binary/mine", mine), 410, "deleted")
    assert site.get("Binary/mine", mine).headers["etag"] == 'W/"2"'
    assert {"Binary/mine", "Patient/a"} <= {each for event in site.events(mark) for each in told(event)}
    assert site.get("Binary/mine/_history/1", mine).content == b"what was found"
    assert site.ask("DELETE", "Binary/mine", mine).status_code == 204


# --- in


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_who_may_change_the_context_writes_it_in_a_bundle(site: FhirSite, kind: str) -> None:
    mine = site.token("patient/DocumentReference.ru", "a")
    mark = site.mark()
    asked = bundle(entry("POST", "Binary", inline()), entry("PUT", "Binary/named", inline("named")), kind=kind)
    done = site.ask("POST", "", mine, body=asked)
    assert [each["response"]["status"] for each in done.json()["entry"]] == ["201 Created"] * 2, done.text
    places = [each["response"]["location"] for each in done.json()["entry"]]
    assert places[1] == "Binary/named/_history/1"
    assert sorted(told(each) for each in site.events(mark)) == sorted([place, "Patient/a"] for place in places)
    changed = inline("named", data=base64.b64encode(b"more").decode())
    (done_,) = site.ask("POST", "", mine, body=bundle(entry("PUT", "Binary/named", changed), kind=kind)).json()["entry"]
    assert done_["response"]["etag"] == 'W/"2"'
    assert site.get("Binary/named", mine).content == b"more"


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_what_may_not_be_written_by_itself_is_not_in_a_bundle(site: FhirSite, kind: str) -> None:
    site.put(inline("b", of="b"))
    mine = site.token("patient/*.cruds", "a")
    for refused, status in (
        (entry("POST", "Binary", inline(of="b")), 403),
        (entry("POST", "Binary", inline(of="")), 403),
        (entry("PUT", "Binary/b", inline("b", of="a")), 403),
        (entry("DELETE", "Binary/b"), 403),
        (entry("POST", "Binary", inline(of="", securityContext={"reference": "DocumentReference/none"})), 403),
        (entry("PUT", "Binary/c", inline("other")), 400),
        (entry("PUT", "Binary/c", inline("c"), ifMatch='W/"1"'), 412),
        (entry("POST", "Binary", inline(), ifMatch='W/"1"'), 412),
        (entry("POST", "Binary", inline(contentType="no type")), 400),
    ):
        done = site.ask("POST", "", mine, body=bundle(refused, kind=kind))
        found = done.json()["entry"][0]["response"]["status"][:3] if kind == "batch" else str(done.status_code)
        assert found == str(status), (refused, done.text)
    assert site.get("Binary/b").headers["etag"] == 'W/"1"'


def test_a_transaction_links_it_to_what_it_makes(site: FhirSite) -> None:
    context = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": "Patient/a"},
        "content": [{"attachment": {"url": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e1"}}],
    }  # fmt: skip
    made = inline(of="", securityContext={"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"})
    done = site.ask(
        "POST", "", site.token("patient/*.cruds", "a"),
        body=bundle(
            {**entry("POST", "Binary", made), "fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e1"},
            {**entry("POST", "DocumentReference", context), "fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
            kind="transaction",
        ),
    )  # fmt: skip
    assert done.status_code == 200, done.text
    binary = done.json()["entry"][0]["response"]["location"].split("/_history")[0]
    assert site.get(binary, site.token("patient/DocumentReference.r", "a")).content == b"what was found"


def test_access_comes_before_versions(site: FhirSite) -> None:
    site.put(inline("sec", of="b"))
    stranger = site.token("patient/Observation.r", "a")
    for etag in ('W/"1"', 'W/"9"'):
        for path in ("Binary/sec", "Binary/none"):
            issue(site.ask("DELETE", path, stranger, If_Match=etag), 403, "forbidden")
            issue(site.ask("PUT", path, stranger, body=b"x", If_Match=etag, **TEXT), 403, "forbidden")
            issue(site.ask("PUT", path, stranger, body=inline(path[7:], of="b"), If_Match=etag), 403, "forbidden")
    issue(site.ask("DELETE", "Binary/sec", If_Match='W/"9"'), 412, "conflict")
    issue(site.ask("DELETE", "Binary/none", If_Match='W/"9"'), 412, "conflict")
    assert site.ask("DELETE", "Binary/sec", If_Match='W/"1"').status_code == 204
    issue(site.ask("DELETE", "Binary/sec", If_Match='W/"2"'), 412, "conflict")
    assert site.ask("DELETE", "Binary/sec").status_code == 204


def test_an_update_creates_none_where_updates_create_nothing(tmp_path: Path) -> None:
    with fhir_site(tmp_path / "data", fhir_update_creates=False) as site:
        for body, more in ((b"x", TEXT), (inline("q", of=""), {})):
            refused = site.ask("PUT", "Binary/q", body=body, **more)
            issue(refused, 405, "not-supported")
            assert refused.headers["allow"]
        assert list(site.node.blobs.list()) == []
        (found,) = site.ask("POST", "", body=bundle(entry("PUT", "Binary/q", inline("q", of="")))).json()["entry"]
        assert found["response"]["status"][:3] == "405"
        id_ = site.ask("POST", "Binary", body=b"x", **TEXT).json()["id"]
        assert site.ask("PUT", f"Binary/{id_}", body=b"y", **TEXT).status_code == 200


def test_who_comes_second_meets_what_the_first_made(site: FhirSite) -> None:
    first, second = (Caller(Decision(of, parse_scopes("patient/*.cruds"), of), site.base) for of in "ba")
    database = site.node.database

    def late() -> None:
        with database.write() as connection:
            work.write(connection, second, "same", inline("same", of="a"))

    with ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            work.write(connection, first, "same", inline("same", of="b"))
            coming = pool.submit(late)
            await_waiting(site)
        with pytest.raises(Forbidden):
            coming.result()
    assert site.get("Binary/same").headers["etag"] == 'W/"1"'
