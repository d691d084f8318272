"""A request for patient A's data at each route of FHIR, DICOMweb and SOAP, and the site that they are asked of.

Tests hold the rows against the tables of the routers: a route that has no request here fails.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from httpx2 import Response
from peers import mhd_source
from peers.dicomweb import multipart
from peers.generated import Made, send
from peers.imageshare import publish_all
from peers.smart_site import STUDIES, SmartSite
from peers.worklist import step
from sqlalchemy import select
from starlette.testclient import TestClient

from ihe import iti18, iti43, rad69, soap
from ihe.find_documents import FindDocuments
from ihe.iti43 import DocumentRequest
from ihe.rad69 import SeriesRequest, StudyRequest
from server.access import capabilities
from server.records import fetches, trail
from server.records.catalogue import PATIENT

FHIR_JSON: Final = {"Content-Type": "application/fhir+json"}
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
CANARIES: Final = ("Alba", "Anna")
"""Of patient A's name; nobody else has them."""
_numbers = itertools.count(100)


@dataclass
class Site:
    """The site, with what the requests are about: all of it is patient A's."""

    smart: SmartSite
    system: str
    theirs: str
    """A token of patient B."""
    document: str
    items: dict[str, str] = field(default_factory=dict)

    @property
    def a(self) -> str:
        return self.smart.patients["A"]

    def ask(self, token: str, asked: "Asked", http: TestClient | None = None) -> Response:
        headers = {"Authorization": f"Bearer {token}", **asked.headers}
        return (http or self.smart.http).request(asked.method, asked.url, content=asked.body, headers=headers)

    def put(self, type_: str, **more: Any) -> str:
        """A new resource of patient A; its id."""
        body = {"resourceType": type_, "id": f"made-{next(_numbers)}", **more}
        found = self.smart.http.put(f"/fhir/{type_}/{body['id']}", content=orjson.dumps(body), headers=self.headers(FHIR_JSON))
        assert found.status_code == 201, found.text
        return str(body["id"])

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.system}", **more}

    def observation(self) -> str:
        return self.put("Observation", **self.told())

    def told(self, **more: Any) -> dict[str, Any]:
        return {
            "status": "final", "code": {"text": "height"}, "subject": {"reference": f"Patient/{self.a}"}, "valueString": "Alba", **more,
        }  # fmt: skip

    def study(self) -> Made:
        """A new study of patient A, published."""
        made = Made(study=next(_numbers), patient="A", name="Alba^Anna")
        send(self.smart.node, made)
        publish_all(self.smart.node)
        return made

    @contextmanager
    def events(self) -> Iterator[list[trail.RecordedEvent]]:
        """What came into the trail within the block."""
        node = self.smart.node
        node.strangers.flush()
        with node.database.read() as connection:
            before = max((each.pk for each in trail.events(connection, limit=1)), default=0)
        found: list[trail.RecordedEvent] = []
        yield found
        node.strangers.flush()
        with node.database.read() as connection:
            found += trail.events(connection, trail.EVENT.c.pk > before, limit=1000)


@dataclass(frozen=True)
class Asked:
    """A request. `concerned` are the patients of whom a token for everything is told; None where there is nothing of patients to tell.

    `named`: whether it names patient A's data, so that another's token is refused it.
    """

    method: str
    url: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    concerned: str | None = "A"
    named: bool = True


Build = Callable[[Site], Asked]


def fhir(method: str, path: str, body: Any = None, *, concerned: str | None = "A", named: bool = True, **headers: str) -> Asked:
    content = body if isinstance(body, bytes | None) else orjson.dumps(body)
    given = {**({} if body is None else FHIR_JSON), **headers}
    return Asked(method, f"/fhir{path}", content, given, concerned, named)


def form(path: str, body: str, **more: Any) -> Asked:
    return Asked("POST", f"/fhir{path}", body.encode(), FORM, **more)


PATCH: Final = orjson.dumps([{"op": "replace", "path": "/valueString", "value": "Alba again"}])
PATCHED: Final = {"Content-Type": "application/json-patch+json"}


def _batch(site: Site) -> Asked:
    entry = {"request": {"method": "GET", "url": f"Patient/{site.a}"}}
    return fhir("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [entry]}, named=False)


def _identified(site: Site) -> tuple[str, dict[str, Any]]:
    value = f"v{next(_numbers)}"
    told = site.told(identifier=[{"system": "urn:test", "value": value}])
    site.put("Observation", **told)
    return f"urn:test|{value}", told


def _binary(site: Site, id_: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Binary", **({"id": id_} if id_ else {}), "contentType": "text/plain", "data": "QWxiYQ==",
        "securityContext": {"reference": f"Patient/{site.a}"},
    }  # fmt: skip


def _stored_binary(site: Site) -> str:
    found = site.smart.http.post("/fhir/Binary", content=orjson.dumps(_binary(site)), headers=site.headers(FHIR_JSON))
    assert found.status_code == 201, found.text
    return str(found.headers["location"].split("/Binary/")[1].partition("/")[0])


def _put_conditionally(site: Site) -> Asked:
    token, told = _identified(site)
    return fhir("PUT", f"/Observation?identifier={token}", {"resourceType": "Observation", **told, "status": "amended"})


def _put_binary(site: Site, id_: str) -> Asked:
    return fhir("PUT", f"/Binary/{id_}", _binary(site, id_))


def _put(site: Site, id_: str) -> Asked:
    return fhir("PUT", f"/Observation/{id_}", {**_observation(site), "id": id_})


def _observation(site: Site, status: str = "amended") -> dict[str, Any]:
    return {"resourceType": "Observation", **site.told(status=status)}


def _document(site: Site) -> dict[str, Any]:
    identifier = {"system": f"urn:oid:{site.smart.node.installation.patients.oid}", "value": "A"}
    return mhd_source.fhir_document(identifier, mhd_source.oid())


FHIR: Final[dict[tuple[str, str], Build]] = {
    ("GET", "/metadata"): lambda site: fhir("GET", "/metadata", concerned=None),
    ("POST", ""): _batch,
    ("GET", ""): lambda site: fhir("GET", f"?_type=Patient&_id={site.a}", named=False),
    ("POST", "/_search"): lambda site: form("/_search", f"_type=Patient&_id={site.a}", named=False),
    ("GET", "/_history"): lambda site: fhir("GET", "/_history?_count=1000", concerned="AB", named=False),
    ("GET", "/${operation}"): lambda site: fhir("GET", "/$meta", concerned="", named=False),
    ("POST", "/${operation}"): lambda site: fhir("POST", "/$meta", concerned="", named=False),
    ("POST", "/DocumentReference/$generate-metadata"): lambda site: fhir(
        "POST", "/DocumentReference/$generate-metadata", _document(site)
    ),
    ("GET", "/{type}/${operation}"): lambda site: fhir("GET", f"/DocumentReference/$docref?patient={site.a}"),
    ("POST", "/{type}/${operation}"): lambda site: form("/DocumentReference/$docref", f"patient={site.a}"),
    ("GET", "/{type}/{id}/${operation}"): lambda site: fhir("GET", f"/Patient/{site.a}/$access-history"),
    ("POST", "/{type}/{id}/${operation}"): lambda site: form(f"/Patient/{site.a}/$everything", "_count=5"),
    ("GET", "/Binary/{id}"): lambda site: fhir("GET", f"/Binary/{site.document}"),
    ("GET", "/Binary/{id}/_history/{version}"): lambda site: fhir("GET", f"/Binary/{_stored_binary(site)}/_history/1"),
    ("DELETE", "/Binary/{id}"): lambda site: fhir("DELETE", f"/Binary/{_stored_binary(site)}"),
    ("POST", "/Binary"): lambda site: fhir("POST", "/Binary", _binary(site)),
    ("PUT", "/Binary/{id}"): lambda site: _put_binary(site, _stored_binary(site)),
    ("POST", "/{type}"): lambda site: fhir("POST", "/Observation", _observation(site)),
    ("GET", "/{type}"): lambda site: fhir("GET", f"/ImagingStudy?patient={site.a}"),
    ("PUT", "/{type}"): _put_conditionally,
    ("PATCH", "/{type}"): lambda site: Asked(
        "PATCH", f"/fhir/Observation?identifier={_identified(site)[0]}", PATCH, PATCHED, named=False
    ),
    ("DELETE", "/{type}"): lambda site: fhir("DELETE", f"/Observation?identifier={_identified(site)[0]}", named=False),
    ("POST", "/{type}/_search"): lambda site: form("/ImagingStudy/_search", f"patient={site.a}"),
    ("GET", "/{type}/_history"): lambda site: fhir("GET", "/Patient/_history?_count=1000", concerned="AB", named=False),
    ("GET", "/{type}/{id}"): lambda site: fhir("GET", f"/Patient/{site.a}"),
    ("PUT", "/{type}/{id}"): lambda site: _put(site, site.observation()),
    ("PATCH", "/{type}/{id}"): lambda site: Asked("PATCH", f"/fhir/Observation/{site.observation()}", PATCH, PATCHED),
    ("DELETE", "/{type}/{id}"): lambda site: fhir("DELETE", f"/Observation/{site.observation()}"),
    ("GET", "/{type}/{id}/_history"): lambda site: fhir("GET", f"/Observation/{site.observation()}/_history"),
    ("GET", "/{type}/{id}/_history/{version}"): lambda site: fhir("GET", f"/Observation/{site.observation()}/_history/1"),
    ("POST", "/{compartment}/{id}/{type}/_search"): lambda site: form(f"/Patient/{site.a}/ImagingStudy/_search", "_count=5"),
    ("GET", "/{compartment}/{id}/{type}"): lambda site: fhir("GET", f"/Patient/{site.a}/ImagingStudy"),
}  # fmt: skip

_FIRST: Final = STUDIES["A"][0]
STUDY: Final = "/dicomweb/studies/{study}"
_SERIES: Final = STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_WORKITEM: Final = "/dicomweb/workitems/{workitem}"
_AT: Final = {STUDY: 0, _SERIES: 1, _INSTANCE: 2}


def filled(path: str, made: Made = _FIRST, **more: str) -> str:
    given = {"study": made.study_uid, "series": made.series_uid, "instance": made.uid, "frames": "1", "path": "7FE00010", **more}
    return path.replace(":path}", "}").format(**given)


def dicom(method: str, path: str, made: Made = _FIRST, *, query: str = "", **more: Any) -> Asked:
    return Asked(method, filled(path, made) + query, **more)


def _get(path: str) -> Build:
    return lambda site: dicom("GET", path, headers=_accept(path))


def _accept(path: str) -> dict[str, str]:
    whole = path.endswith("/rendered") and "{instance}" not in path
    kind = 'multipart/related; type="image/png"' if whole else "image/png" if path.endswith(("rendered", "thumbnail")) else "*/*"
    return {"Accept": kind}


def _capability(path: str) -> Build:
    """The same under an address that is good for this token alone."""

    def build(site: Site) -> Asked:
        node = site.smart.node
        made = node.tokens.decide(site.system)
        issued = capabilities.issue(node.installation.cursor_key, made, _FIRST.study_uid, time.time(), 3600)
        return Asked("GET", filled(path, capability=issued), headers=_accept(path), named=False)

    return build


def _store(path: str) -> Build:
    def build(site: Site) -> Asked:
        made = Made(study=next(_numbers), patient="A", name="Alba^Anna")
        kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b', "Accept": "application/dicom+json"}
        return Asked("POST", filled(path, made), multipart([made.part10()], "b"), kind, named=False)

    return build


def _search(level: str) -> Build:
    return lambda site: Asked("GET", f"/dicomweb/{level}?PatientID=A", named=False)


def _on_new_study(method: str, path: str) -> Build:
    return lambda site: dicom(method, path, site.study(), named=False)


def _rejected(path: str) -> Build:
    def build(site: Site) -> Asked:
        made = site.study()
        site.ask(site.system, dicom("POST", f"{path}/reject/113001%5EDCM", made))
        return dicom("POST", f"{path}/restore", made, named=False)

    return build


def _item(site: Site) -> str:
    uid = f"2.25.{next(_numbers)}"
    found = site.ask(site.system, _creating(site, uid))
    assert found.status_code == 201, found.text
    return uid


def _search_items(site: Site) -> Asked:
    _item(site)
    return Asked("GET", "/dicomweb/workitems?PatientID=A", headers={"Accept": "application/dicom+json"}, named=False)


def _creating(site: Site, uid: str) -> Asked:
    item = step("A", t00100010={"vr": "PN", "Value": [{"Alphabetic": "Alba^Anna"}]})
    kind = {"Content-Type": "application/dicom+json"}
    return Asked("POST", f"/dicomweb/workitems?{uid}", orjson.dumps(item), kind, named=False)


def _of_item(method: str, path: str, body: dict[str, Any] | None = None, *, concerned: str | None = "A") -> Build:
    def build(site: Site) -> Asked:
        content = None if body is None else orjson.dumps(body)
        kind = {"Content-Type": "application/dicom+json", "Accept": "application/dicom+json"}
        return Asked(method, path.format(workitem=_item(site), aet="VIEWER"), content, kind, concerned, named=False)

    return build


def _subscribed(site: Site, method: str, more: str) -> Asked:
    """Of the whole worklist, by an application of its own."""
    at = f"/dicomweb/workitems/1.2.840.10008.5.1.4.34.5/subscribers/VIEWER{next(_numbers)}"
    found = site.ask(site.system, Asked("POST", at))
    assert found.status_code == 201, found.text
    return Asked(method, f"{at}{more}", concerned=None, named=False)


def _latest_change(site: Site) -> Asked:
    site.study()
    return Asked("GET", "/dicomweb/changefeed/latest", named=False)


def _fetch_body(site: Site) -> dict[str, str]:
    with site.smart.node.database.read() as connection:
        (oid, value) = connection.execute(
            select(PATIENT.c.authority, PATIENT.c.value).where(PATIENT.c.id == site.smart.patients["A"])
        ).one()
    return {"community": "county", "patient": f"{value}^^^&{oid}&ISO"}


def _fetch(site: Site) -> Asked:
    return Asked("POST", "/dicomweb/fetches", orjson.dumps(_fetch_body(site)), {"Content-Type": "application/json"}, named=False)


def _fetch_status(site: Site) -> Asked:
    with site.smart.node.database.write() as connection:
        asked = orjson.dumps({"patient": _fetch_body(site)["patient"]}).decode()
        id_ = fetches.begin(connection, community="county", asked=asked, requester="{}")
    return Asked("GET", f"/dicomweb/fetches/{id_}", named=False)


_LABEL: Final = {"00741204": {"vr": "LO", "Value": ["Alba"]}}
_CLAIM: Final = {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": ["2.25.7"]}}

DICOMWEB: Final[dict[tuple[str, str], Build]] = {
    **{("GET", f"/dicomweb/{level}"): _search(level) for level in ("studies", "series", "instances")},
    ("GET", "/dicomweb/changefeed"): lambda site: Asked("GET", "/dicomweb/changefeed?limit=200", concerned="AB", named=False),
    ("GET", "/dicomweb/changefeed/latest"): _latest_change,
    **{("GET", path): _get(path) for path in (
        f"{STUDY}/series", f"{STUDY}/instances", f"{_SERIES}/instances", STUDY, _SERIES, _INSTANCE, f"{_INSTANCE}/frames/{{frames}}",
        f"{STUDY}/metadata", f"{_SERIES}/metadata", f"{_INSTANCE}/metadata", f"{_INSTANCE}/bulkdata/{{path:path}}",
        f"{STUDY}/rendered", f"{_SERIES}/rendered", f"{_INSTANCE}/rendered", f"{_INSTANCE}/frames/{{frames}}/rendered",
        f"{STUDY}/thumbnail", f"{_SERIES}/thumbnail", f"{_INSTANCE}/thumbnail", f"{_INSTANCE}/frames/{{frames}}/thumbnail",
    )},
    **{("POST", path): _store(path) for path in ("/dicomweb/studies", STUDY)},
    **{("DELETE", path): _on_new_study("DELETE", path) for path in _AT},
    **{("POST", f"{path}/reject/{{code}}"): _on_new_study("POST", f"{path}/reject/113001%5EDCM") for path in _AT},
    **{("POST", f"{path}/restore"): _rejected(path) for path in _AT},
    ("PATCH", STUDY): lambda site: dicom(
        "PATCH", STUDY, site.study(), body=orjson.dumps({"00081030": {"vr": "LO", "Value": ["Alba"]}}),
        headers={"Content-Type": "application/dicom+json"}, named=False,
    ),
    ("GET", "/wado"): lambda site: Asked(
        "GET", filled("/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}&contentType=application%2Fdicom")
    ),
    ("POST", "/dicomweb/fetches"): _fetch,
    ("GET", "/dicomweb/fetches/{fetch}"): _fetch_status,
    ("POST", "/dicomweb/workitems"): lambda site: _creating(site, f"2.25.{next(_numbers)}"),
    ("GET", "/dicomweb/workitems"): _search_items,
    ("GET", _WORKITEM): _of_item("GET", _WORKITEM),
    ("POST", _WORKITEM): _of_item("POST", _WORKITEM, _LABEL),
    ("PUT", f"{_WORKITEM}/state"): _of_item("PUT", f"{_WORKITEM}/state", _CLAIM),
    ("POST", f"{_WORKITEM}/cancelrequest"): _of_item("POST", f"{_WORKITEM}/cancelrequest"),
    ("POST", f"{_WORKITEM}/subscribers/{{aet}}"): _of_item("POST", f"{_WORKITEM}/subscribers/{{aet}}"),
    ("DELETE", f"{_WORKITEM}/subscribers/{{aet}}"): lambda site: _subscribed(site, "DELETE", ""),
    ("POST", f"{_WORKITEM}/subscribers/{{aet}}/suspend"): lambda site: _subscribed(site, "POST", "/suspend"),
}  # fmt: skip


def _envelope(path: str, action: str, body: Any) -> Asked:
    message = soap.render_request(action, body, "urn:uuid:0a0a0a0a-0000-4000-8000-000000000001", f"http://127.0.0.1:8080{path}")
    return Asked("POST", path, message, {"Content-Type": soap.content_type(action)}, named=False)


def _registry(site: Site) -> Asked:
    oid = site.smart.node.installation.patients.oid
    query = FindDocuments(f"A^^^&{oid}&ISO", ("urn:oasis:names:tc:ebxml-regrep:StatusType:Approved",)).query()
    return _envelope("/xds/registry", iti18.REQUEST_ACTION, iti18.request(query))


def _repository(site: Site) -> Asked:
    ours = site.smart.node.installation.repository
    wanted = [DocumentRequest(ours, site.items["document"])]
    return _envelope("/xds/repository", iti43.REQUEST_ACTION, iti43.request(wanted))


def _source(site: Site) -> Asked:
    document = DocumentRequest(site.smart.node.installation.imaging_source, _FIRST.uid)
    wanted = [StudyRequest(_FIRST.study_uid, (SeriesRequest(_FIRST.series_uid, (document,)),))]
    return _envelope("/xds/imaging-source", rad69.REQUEST_ACTION, rad69.request(wanted, ["1.2.840.10008.1.2.1"]))


SOAP: Final[dict[tuple[str, str], Build]] = {
    ("POST", "/xds/registry"): _registry,
    ("POST", "/xds/repository"): _repository,
    ("POST", "/xds/imaging-source"): _source,
}


ROWS: Final[dict[tuple[str, str], Build]] = {
    **{(method, f"/fhir{path}"): build for (method, path), build in FHIR.items()},
    **DICOMWEB,
    **{
        (method, path.replace("/dicomweb", "/dicomweb/c/{capability}", 1)): _capability(
            path.replace("/dicomweb", "/dicomweb/c/{capability}", 1)
        )
        for method, path in DICOMWEB
        if method == "GET" and path.startswith(STUDY)
    },
    **SOAP,
}


def everything(smart: SmartSite) -> Site:
    """The site with what the rows need: a token for everything, and one of patient B for all that is B's."""
    tokens = smart.node.tokens
    system = tokens.issue(client="everything", scope="system/*.cruds")
    theirs = tokens.issue(client="theirs", scope="patient/*.cruds", patient=smart.patients["B"])
    found = smart.http.get(
        f"/fhir/DocumentReference?patient={smart.patients['A']}", headers={"Authorization": f"Bearer {system}"}
    )
    document = found.json()["entry"][0]["resource"]
    unique = document["masterIdentifier"]["value"].removeprefix("urn:oid:")
    return Site(smart, system, theirs, document["id"], {"document": unique})


def calling(site: Site, row: tuple[str, str], address: str = "127.0.0.1") -> TestClient | None:
    """The client of a row's request, None for the site's own: SOAP answers programs of this machine."""
    if row not in SOAP:
        return None
    return TestClient(site.smart.http.app, base_url=site.smart.base, client=(address, 50000), raise_server_exceptions=False)
