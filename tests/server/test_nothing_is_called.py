"""Abuse case 17: no door has this server call a URL that somebody wrote into what he sent. A canary on this machine sees nobody."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from peers import imageshare
from peers.generated import Made
from peers.listener import Listener, listening
from peers.smart_site import SmartSite, smart_site

FHIR: Final = {"Content-Type": "application/fhir+json"}
SOAP: Final = "http://www.w3.org/2003/05/soap-envelope"


@dataclass(frozen=True)
class Trap:
    """A site, and a URL that nobody may call."""

    site: SmartSite
    canary: Listener
    url: str
    token: dict[str, str]

    def fhir(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        """What is asked of FHIR, by a token for everything."""
        content = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else None
        answer = self.site.http.request(method, f"/fhir/{path}", content=content, headers={**FHIR, **self.token, **headers})
        return int(answer.status_code)


@pytest.fixture(params=["127.0.0.1", "localhost"])
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trap]:
    with listening() as canary, smart_site(tmp_path, client_registration="open") as site:
        token = site.node.tokens.issue(client="script", scope="system/*.cruds")
        scheme = "http" if request.param == "127.0.0.1" else "https"
        url = f"{scheme}://{request.param}:{canary.port}/x"
        yield Trap(site, canary, url, {"Authorization": f"Bearer {token}"})
        imageshare.publish_all(site.node)  # nor do jobs, later
        assert canary.connections == 0


def test_references_and_attachments_of_fhir(trap: Trap) -> None:
    url, patient = trap.url, trap.site.patients["A"]
    document = {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": f"Patient/{patient}"},
        "meta": {"profile": [f"{url}/StructureDefinition/y"]}, "implicitRules": url,
        "author": [{"reference": f"{url}/fhir/Practitioner/1"}], "content": [{"attachment": {"url": url, "contentType": "text/html"}}],
    }  # fmt: skip
    endpoint = {
        "resourceType": "Endpoint", "status": "active", "address": url, "payloadType": [{"text": "DICOM"}],
        "connectionType": {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "dicom-wado-rs"},
    }  # fmt: skip
    plain = {name: value for name, value in document.items() if name != "implicitRules"}
    told = [trap.fhir("POST", "DocumentReference", each) for each in (document, plain)]
    assert 201 in told
    trap.fhir("POST", "Endpoint", endpoint)
    bundle = {
        "resourceType": "Bundle", "type": "transaction",
        "entry": [
            {"fullUrl": f"{url}/DocumentReference/1", "resource": plain, "request": {"method": "POST", "url": "DocumentReference"}},
            {"request": {"method": "GET", "url": f"{url}/Patient"}},
        ],
    }  # fmt: skip
    for type_ in ("transaction", "batch"):
        assert trap.fhir("POST", "", {**bundle, "type": type_}) < 500
    assert trap.fhir("POST", "Subscription", {"resourceType": "Subscription", "channel": {"endpoint": url}}) < 500
    assert trap.fhir("POST", f"DocumentReference/$validate?profile={url}", plain) < 500


@pytest.mark.parametrize(
    "query",
    [
        "Patient?_profile={}",
        "ImagingStudy?subject={}/Patient/1",
        "ImagingStudy?endpoint={}/Endpoint/1&_include=ImagingStudy:endpoint",
        "Observation?code:in={}",
        "ImagingStudy?modality:not-in={}/ValueSet/1",
        "DocumentReference?location={}",
        "AuditEvent?entity={}",
        "DocumentReference/$docref?patient={}/Patient/1",
    ],
)
def test_searches(trap: Trap, query: str) -> None:
    assert trap.fhir("GET", query.format(trap.url)) < 500


def test_xml(trap: Trap) -> None:
    """Document type declarations, entities, XInclude, schema locations and stylesheets, in FHIR, SOAP and native DICOM."""
    url = trap.url
    prologues = (
        f'<!DOCTYPE a SYSTEM "{url}">',
        f'<!DOCTYPE a [<!ENTITY e SYSTEM "{url}">]>',
        f'<!DOCTYPE a [<!ENTITY % e SYSTEM "{url}"> %e;]>',
        f'<?xml-stylesheet href="{url}"?>',
        "",
    )
    include = f'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="{url}"/>'
    located = f'xmlns:s="http://www.w3.org/2001/XMLSchema-instance" s:schemaLocation="http://hl7.org/fhir {url}"'
    xml = {"Content-Type": "application/fhir+xml"}
    for prologue in prologues:
        patient = f'{prologue}<Patient xmlns="http://hl7.org/fhir" {located}><active value="true"/>{include}</Patient>'
        assert trap.fhir("POST", "Patient", patient.encode(), **xml) < 500
        envelope = f'{prologue}<s:Envelope xmlns:s="{SOAP}"><s:Body>{include}</s:Body></s:Envelope>'
        for path in ("registry", "repository", "imaging-source"):
            headers = {"Content-Type": "application/soap+xml"}
            trap.site.http.post(f"/xds/{path}", content=envelope.encode(), headers=headers)
        model = f"{prologue}<NativeDicomModel>{include}</NativeDicomModel>"
        boundary = 'multipart/related; type="application/dicom+xml"; boundary=b'
        body = f"--b\r\nContent-Type: application/dicom+xml\r\n\r\n{model}\r\n--b--\r\n"
        trap.site.http.post("/dicomweb/studies", content=body.encode(), headers={**trap.token, "Content-Type": boundary})


def test_dicomweb(trap: Trap) -> None:
    """Retrieve URLs, bulk data elsewhere, and where the results of a workitem are to be stored."""
    dataset = Made(study=9, patient="A", name="Alba^Anna").dataset()
    dataset.RetrieveURL = trap.url
    model = orjson.loads(dataset.to_json())
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": trap.url}
    headers = {**trap.token, "Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b'}
    body = b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + orjson.dumps([model]) + b"\r\n--b--\r\n"
    assert trap.site.http.post("/dicomweb/studies", content=body, headers=headers).status_code in (400, 409)
    del model["7FE00010"]
    body = b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + orjson.dumps([model]) + b"\r\n--b--\r\n"
    trap.site.http.post("/dicomweb/studies", content=body, headers=headers)
    workitem = {
        "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
        "00404070": {"vr": "SQ", "Value": [{"00404073": {"vr": "SQ", "Value": [{"00404074": {"vr": "UR", "Value": [trap.url]}}]}}]},
    }  # fmt: skip
    json = {**trap.token, "Content-Type": "application/dicom+json"}
    trap.site.http.post("/dicomweb/workitems?1.2.3", content=orjson.dumps([workitem]), headers=json)
    for path in ("/dicomweb/workitems/1.2.3/subscribers/AE?deletionlock=true", f"/dicomweb/workitems/1.2.840.10008.5.1.4.34.5/subscribers/{trap.url}"):  # fmt: skip
        trap.site.http.post(path, headers=trap.token)


def test_a_client_that_registers_itself(trap: Trap) -> None:
    """Its keys would be fetched when it first asks for a token; so would its logo for a page. Without TLS it does not come so far."""
    url, site = trap.url.replace("http:", "https:"), trap.site
    body = {
        "client_name": "An app", "redirect_uris": ["https://app.example.org/back", url], "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["authorization_code"], "jwks_uri": url, "logo_uri": url, "client_uri": url, "tos_uri": url, "policy_uri": url,
        "sector_identifier_uri": url, "software_statement": url, "initiate_login_uri": url, "request_uris": [url],
    }  # fmt: skip
    told = site.http.post("/oauth/register", json=body)
    plain = {
        name: body[name]
        for name in ("client_name", "redirect_uris", "token_endpoint_auth_method", "grant_types", "jwks_uri", "logo_uri")
    }
    told = told if told.status_code == 201 else site.http.post("/oauth/register", json=plain)
    assert told.status_code == 201, told.text
    if url != trap.url:
        for name in ("jwks_uri", "logo_uri", "client_uri", "initiate_login_uri"):
            refused = site.http.post("/oauth/register", json={**plain, name: trap.url})
            # Apps in the making are opened by a browser of their own machine: that URL alone may be without TLS.
            assert refused.status_code == (201 if name == "initiate_login_uri" else 400), name
    id_ = told.json()["client_id"]
    for header in ({}, {"jku": url}, {"x5u": url}):
        site.keys[id_] = site.keys["asymmetric"]
        refused = site.token(
            {"grant_type": "authorization_code", "code": "c", "client_assertion": site.assertion(id_, header)}, id_
        )
        assert refused.status_code in (400, 401)
        assert refused.json()["error"] == "invalid_client"
    assert site.node.logos.picture(url) is None  # as where somebody opens the page of the app
    for name in ("request_uri", "request", "aud", "redirect_uri", "launch", "logo_uri"):
        assert site.authorize({**site.asking(id_), name: url}).status_code < 500


def test_a_token_says_where_its_keys_are(trap: Trap) -> None:
    header = {"alg": "ES256", "kid": trap.url, "jku": trap.url, "x5u": trap.url, "typ": "at+jwt"}
    claims = {"iss": trap.url, "aud": trap.site.base, "exp": 1 << 40}
    token = ".".join(_b64(orjson.dumps(each)) for each in (header, claims)) + ".c2ln"
    assert trap.fhir("GET", "Patient", Authorization=f"Bearer {token}") == 401


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
