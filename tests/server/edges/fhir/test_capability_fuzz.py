"""Whatever is asked of what the CapabilityStatement claims, right, wrong or hostile: no failure, a status of FHIR's own, and nothing half-written.

Some hundreds of requests on each engine; `make test-deep` sends thousands, others each time.
"""

from collections.abc import Iterator
from typing import Any, Final

import hypothesis
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from peers import imageshare
from peers.fhir_bodies import bundles, operations, writes
from peers.fhir_requests import Asked, Claims, searches
from peers.fhir_site import FhirSite, fhir_site
from peers.generated import Made, send
from sqlalchemy import Connection, func, select

from profiles.fhir.json import parse, serialize
from profiles.fhir.xml import from_xml
from server.edges.fhir.capability import Site, capability_statement
from server.records import index_rows, packing, parameters, report_links
from server.records.resources import RESOURCE, VERSION

CLAIMS: Final = Claims(capability_statement(Site("Fuzz", "http://127.0.0.1/fhir")))
STATUSES: Final = {
    200,
    201,
    202,
    204,
    206,
    304,
    400,
    401,
    403,
    404,
    405,
    406,
    409,
    410,
    412,
    413,
    415,
    416,
    422,
    429,
    501,
    503,
    507,
}
"""FHIR R4 section 3.1.0.1.4 and those of RFC 9110 that it refers to; of the last three each is meant (not offered, come again, no room)."""
KEPT: Final[tuple[dict[str, Any], ...]] = (
    {"resourceType": "Patient", "id": "one", "name": [{"family": "One", "given": ["Ónè"]}], "birthDate": "1970", "link": [{"other": {"reference": "Patient/one"}, "type": "seealso"}]},
    {"resourceType": "Organization", "id": "one", "name": "One", "partOf": {"reference": "Organization/two"}},
    {"resourceType": "Organization", "id": "two", "name": "Two", "partOf": {"reference": "Organization/one"}},
    {"resourceType": "Encounter", "id": "one", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/one"}},
    *(
        {"resourceType": "Observation", "id": id_, "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}], "text": "x"}, "subject": {"reference": "Patient/one"},
         "encounter": {"reference": "Encounter/one"}, "effectiveDateTime": "2026-01-05", "valueQuantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"},
         "hasMember": [{"reference": f"Observation/{other}"}]}
        for id_, other in (("one", "two"), ("two", "one"))
    ),
    {"resourceType": "Binary", "id": "two", "contentType": "application/pdf", "data": "QUJD", "securityContext": {"reference": "Patient/one"}},
    {"resourceType": "List", "id": "one", "status": "current", "mode": "working", "entry": [{"item": {"reference": "Patient/one"}}]},
)  # fmt: skip
SCOPES: Final = st.sampled_from(("system/*.cruds",) * 3 + ("patient/*.cruds",))
pytestmark = pytest.mark.timeout(120 + hypothesis.settings().max_examples)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("fuzz") / "data", module_database_url) as site:
        send(site.node, Made(study=1, patient="P1", accession="A1"), Made(study=2, patient="P1", modality="MR"))
        imageshare.publish_all(site.node)
        site.put(*KEPT)
        yield site
        nothing_is_half_written(site)


def told(content: bytes, media_type: str) -> dict[str, Any]:
    """The resource of an answer."""
    return from_xml(content) if "xml" in media_type else parse(content)


def judge(asked: Asked, found: Response) -> None:
    """What every answer has to be."""
    what = (asked, found.status_code, found.text[:1000])
    assert found.status_code in STATUSES, what
    media_type = found.headers.get("content-type", "")
    if not found.content:
        assert asked.method == "HEAD" or found.status_code < 400 or found.status_code == 416, what
        return
    if found.status_code < 400 and asked.path.startswith("Binary/") and "/fhir+" not in media_type:
        return  # its content
    resource = told(found.content, media_type)
    if found.status_code >= 400:
        assert resource["resourceType"] == "OperationOutcome", what
    _outcome(resource, what)
    for entry in resource.get("entry", ()) if resource["resourceType"] == "Bundle" else ():
        answer = entry.get("response", {})
        assert int(answer.get("status", "200")[:3]) in STATUSES, (answer, what)
        if answer.get("status", "200") >= "4":
            _outcome(answer["outcome"], what)


def _outcome(resource: dict[str, Any], what: object) -> None:
    if resource["resourceType"] == "OperationOutcome":
        assert OperationOutcome.model_validate_json(serialize(resource)).issue, what


def sent(site: FhirSite, asked: Asked, scope: str) -> None:
    url = f"/fhir/{asked.path}" if asked.path and asked.path[0] != "?" else f"/fhir{asked.path}"
    headers = [(name.encode(), value.encode("latin-1")) for name, value in {**site.token(scope, "one"), **asked.headers}.items()]
    found = site.http.request(asked.method, url, headers=headers, content=asked.body)
    hypothesis.event(f"{found.status_code}")
    judge(asked, found)


@given(asked=searches(CLAIMS), scope=SCOPES)
def test_searches_and_reads(site: FhirSite, asked: Asked, scope: str) -> None:
    sent(site, asked, scope)


@given(asked=writes(CLAIMS), scope=SCOPES)
def test_writes(site: FhirSite, asked: Asked, scope: str) -> None:
    sent(site, asked, scope)


@given(asked=operations(CLAIMS), scope=SCOPES)
def test_operations(site: FhirSite, asked: Asked, scope: str) -> None:
    sent(site, asked, scope)


@given(asked=bundles(CLAIMS), scope=SCOPES)
def test_bundles(site: FhirSite, asked: Asked, scope: str) -> None:
    sent(site, asked, scope)


def nothing_is_half_written(site: FhirSite) -> None:
    """After all that is above: each resource is its newest version, has all before it, and is found by exactly what it says."""
    with site.node.database.read() as connection:
        versions = connection.execute(
            select(VERSION.c.resource_pk, func.min(VERSION.c.version), func.max(VERSION.c.version), func.count()).group_by(VERSION.c.resource_pk)
        )  # fmt: skip
        kept = {pk: (first, last, count) for pk, first, last, count in versions}
        rows: dict[int, dict[Any, set[tuple[Any, ...]]]] = {}
        for table in index_rows.WALKED:
            place = [column.name for column in table.columns].index("resource_pk")
            for row in connection.execute(select(table)):
                rows.setdefault(row[place], {}).setdefault(table, set()).add((*row[:place], *row[place + 1 :]))
        resources = list(connection.execute(select(RESOURCE)))
        assert len(resources) == len(kept) > len(KEPT)
        for each in resources:
            assert kept[each.pk] == (1, each.version, each.version), (each.type, each.id)
            newest = connection.execute(
                select(VERSION).where(VERSION.c.resource_pk == each.pk, VERSION.c.version == each.version)
            ).one()
            assert (newest.updated, newest.patient, newest.method == "DELETE") == (each.updated, each.patient, each.deleted == 1)
            assert newest.body == each.body
            expected = {} if each.deleted else expected_rows(connection, each.type, parse(packing.unpacked(each.body)), site.base)
            assert rows.pop(each.pk, {}) == {table: found for table, found in expected.items() if found}, (each.type, each.id)
    assert not rows, "rows of what is not there"


def expected_rows(connection: Connection, type_: str, resource: dict[str, Any], base: str) -> index_rows.Rows:
    """What searches have to walk of a resource: what it says, and the reports and studies that it leads to by name."""
    index = parameters.indexer(connection, type_, resource["id"]).index(resource, base)
    return report_links.linked(connection, resource, index_rows.found(type_, index)).rows
