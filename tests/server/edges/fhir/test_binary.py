"""Binary over HTTP, on both engines: any content in and out as it is, judged as its security context, and its files and rows in step."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.binary import Binary
from httpx2 import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from peers import imageshare
from peers.fhir_site import JSON, XML, FhirSite, fhir_site, issue
from peers.generated import Made, send
from peers.shows import shows

from server.edges.fhir.binary import _joined
from server.work.checks import disagreements

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 9


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put(
            {"resourceType": "Patient", "id": "a"},
            {"resourceType": "Patient", "id": "b"},
            *(
                {
                    "resourceType": "DocumentReference", "id": f"d{of}", "status": "current", "subject": {"reference": f"Patient/{of}"},
                    "content": [{"attachment": {"url": "Binary/x"}}],
                }
                for of in "ab"
            ),
        )  # fmt: skip
        yield site


def stored(
    site: FhirSite,
    content: bytes = PDF,
    kind: str = "application/pdf",
    path: str = "Binary",
    method: str = "POST",
    **headers: str,
) -> Response:
    found = site.ask(method, path, body=content, Content_Type=kind, **headers)
    assert found.status_code in (200, 201), found.text
    return found


def files(site: FhirSite) -> int:
    return len(list(site.node.blobs.list()))


@shows("interaction", "create", "read", "update", "vread", "delete")
def test_content_comes_back_as_it_was(site: FhirSite) -> None:
    made = stored(site)
    assert made.status_code == 201
    assert "data" not in made.json()
    Binary.model_validate(made.json())
    id_ = made.json()["id"]
    assert made.headers["location"] == f"{site.base}/Binary/{id_}/_history/1"
    got = site.get(f"Binary/{id_}")
    assert got.content == PDF
    assert got.headers["content-type"] == "application/pdf"
    assert got.headers["etag"] == 'W/"1"'
    changed = stored(site, b"text", "text/plain; charset=utf-8", f"Binary/{id_}", "PUT", If_Match='W/"1"')
    assert changed.status_code == 200
    assert changed.headers["etag"] == 'W/"2"'
    assert site.get(f"Binary/{id_}").content == b"text"
    assert site.get(f"Binary/{id_}").headers["content-type"] == "text/plain; charset=utf-8"
    assert site.get(f"Binary/{id_}/_history/1").content == PDF
    issue(site.ask("PUT", f"Binary/{id_}", body=b"late", Content_Type="text/plain", If_Match='W/"1"'), 412, "conflict")
    assert site.ask("DELETE", f"Binary/{id_}").status_code == 204
    issue(site.get(f"Binary/{id_}"), 410, "deleted")
    assert site.get(f"Binary/{id_}/_history/1").content == PDF
    assert disagreements(site.node.database, site.node.blobs) == []


def test_the_same_content_is_no_version_and_no_file(site: FhirSite) -> None:
    id_ = stored(site).json()["id"]
    before = files(site)
    again = stored(site, path=f"Binary/{id_}", method="PUT")
    assert again.headers["etag"] == 'W/"1"'
    issue(site.ask("PUT", f"Binary/{id_}", body=b"x", Content_Type="no type"), 400, "value")
    assert files(site) == before
    stored(site, PDF + b".", path=f"Binary/{id_}", method="PUT")
    assert files(site) == before + 1


@shows("format", "application/fhir+json", "application/fhir+xml")
def test_as_a_resource(site: FhirSite) -> None:
    id_ = stored(site, X_Security_Context="DocumentReference/da").json()["id"]
    told = site.get(f"Binary/{id_}", Accept=JSON).json()
    Binary.model_validate(told)
    assert base64.b64decode(told["data"]) == PDF
    assert told["securityContext"] == {"reference": "DocumentReference/da"}
    assert told["meta"]["versionId"] == "1"
    assert set(told) == {"resourceType", "id", "meta", "contentType", "securityContext", "data"}
    root = etree.fromstring(site.get(f"Binary/{id_}?_format=xml").content)
    assert base64.b64decode(root.find("{*}data").get("value")) == PDF
    given = {"resourceType": "Binary", "id": "mine", "contentType": "image/png", "data": base64.b64encode(PDF).decode()}
    assert site.ask("PUT", "Binary/mine", body=given).status_code == 201
    got = site.get("Binary/mine")
    assert (got.content, got.headers["content-type"]) == (PDF, "image/png")
    xml = b'<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="QUI="/></Binary>'
    made = site.ask("POST", "Binary", body=xml, Content_Type=XML, Accept=JSON)
    assert site.get(f"Binary/{made.json()['id']}").content == b"AB"
    issue(site.ask("PUT", "Binary/mine", body={**given, "id": "other"}), 400, "invalid")
    issue(site.ask("POST", "Binary", body={"resourceType": "Binary"}), 400, "required")
    empty = stored(site, b"", "text/plain").json()["id"]
    Binary.model_validate(site.get(f"Binary/{empty}", Accept=JSON).json())
    assert site.get(f"Binary/{empty}").content == b""


def test_all_of_a_resource_is_kept_but_where_its_content_is(site: FhirSite) -> None:
    given = {
        "resourceType": "Binary", "id": "whole", "language": "de", "contentType": "text/plain", "data": "QUI=",
        "implicitRules": "http://example.org/rules", "meta": {"tag": [{"system": "urn:example", "code": "t"}]},
        "securityContext": {"reference": f"{site.base}/DocumentReference/da", "type": "DocumentReference", "display": "the letter"},
    }  # fmt: skip
    for kind, want in (("PUT", "Binary/whole"), ("POST", "")):
        made = site.ask(kind, want or "Binary", body=given)
        assert made.status_code == 201, made.text
        told = site.get(f"Binary/{made.json()['id']}", Accept=JSON).json()
        assert told.pop("meta")["tag"] == given["meta"]["tag"]
        # The context is where it leads, whatever this server is called some day.
        context = {"reference": "DocumentReference/da", "type": "DocumentReference", "display": "the letter"}
        assert told == {
            **{name: each for name, each in given.items() if name != "meta"}, "id": made.json()["id"], "securityContext": context,
        }  # fmt: skip
    assert site.get("Binary/whole", site.token("patient/DocumentReference.r", "a")).content == b"AB"
    issue(site.get("Binary/whole", site.token("patient/DocumentReference.r", "b")), 403, "forbidden")


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"securityContext": {"identifier": {"value": "1"}}}, 422, "not-found"),
        ({"securityContext": {"reference": "https://elsewhere.example/fhir/DocumentReference/da"}}, 422, "not-found"),
        ({"securityContext": {"display": "nothing"}}, 422, "not-found"),
        ({"_data": {"extension": [{"url": "urn:example", "valueString": "x"}]}}, 422, "not-supported"),
    ],
)
def test_what_can_not_be_kept_or_judged_is_refused(site: FhirSite, more: dict[str, Any], status: int, code: str) -> None:
    given = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUI=", **more}
    issue(site.ask("POST", "Binary", body=given), status, code)
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "POST", "url": "Binary"}, "resource": given}],
    }
    issue(site.ask("POST", "", body=bundle), status, code)
    assert files(site) == 0


def test_its_context_may_stand_in_the_header_beside_a_resource(site: FhirSite) -> None:
    given = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUI="}
    id_ = site.ask("POST", "Binary", body=given, X_Security_Context="DocumentReference/da").json()["id"]
    assert site.get(f"Binary/{id_}", site.token("patient/DocumentReference.r", "a")).content == b"AB"
    issue(site.ask("POST", "Binary", body=given, If_None_Exist="contentType=text/plain"), 400, "invalid")
    assert files(site) == 1


@shows("header", "Accept")
def test_json_is_told_as_it_is_unless_that_of_fhir_is_asked_for(site: FhirSite) -> None:
    id_ = stored(site, b'{"a":1}', "application/json").json()["id"]
    for accept in ("application/json", "text/json, */*;q=0.1", "application/xml", "*/*", "application/fhir+json;q=0"):
        assert site.get(f"Binary/{id_}", Accept=accept).content == b'{"a":1}', accept
    for accept in (JSON, XML, "application/json, application/fhir+json;q=0.5", "application/json+fhir"):
        assert b"Binary" in site.get(f"Binary/{id_}", Accept=accept).content, accept
    for form in ("json", "application/json", "xml"):
        assert b"Binary" in site.get(f"Binary/{id_}?_format={form}").content, form


@pytest.mark.parametrize("accept", [JSON, XML])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 300_000])
def test_a_head_says_how_long_the_resource_is(site: FhirSite, accept: str, size: int) -> None:
    id_ = stored(site, b"x" * size).json()["id"]
    got, head = (site.ask(method, f"Binary/{id_}", Accept=accept) for method in ("GET", "HEAD"))
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


@shows("conditional", "read")
@shows("header", "If-Modified-Since")
def test_who_has_it_is_told_so(site: FhirSite) -> None:
    id_ = stored(site).json()["id"]
    (has,) = [each for each in site.get("metadata").json()["rest"][0]["resource"] if each["type"] == "Binary"]
    assert has["conditionalRead"] == "full-support"
    since = site.get(f"Binary/{id_}").headers["last-modified"]
    for accept in ("*/*", JSON):
        assert site.get(f"Binary/{id_}", Accept=accept, If_Modified_Since=since).status_code == 304
        assert site.get(f"Binary/{id_}", Accept=accept, If_None_Match='W/"1"').status_code == 304
        old = "Mon, 01 Jan 2001 00:00:00 GMT"
        assert site.get(f"Binary/{id_}", Accept=accept, If_Modified_Since=old).status_code == 200
        assert site.get(f"Binary/{id_}", Accept=accept, If_None_Match='W/"2"', If_Modified_Since=since).status_code == 200


def test_one_with_its_content_in_its_body_is_read_alike(site: FhirSite) -> None:
    site.put({"resourceType": "Binary", "id": "inline", "contentType": "text/plain", "data": "QUI="})
    assert site.get("Binary/inline").content == b"AB"
    assert site.get("Binary/inline", Range="bytes=1-").content == b"B"
    assert site.get("Binary/inline", Accept=JSON).json()["data"] == "QUI="


def test_it_is_judged_as_its_security_context(site: FhirSite) -> None:
    a, b = (stored(site, X_Security_Context=f"DocumentReference/d{of}").json()["id"] for of in "ab")
    nobody = stored(site).json()["id"]
    mine = site.token("patient/*.cruds", "a")
    mark = site.mark()
    assert site.get(f"Binary/{a}", mine).content == PDF
    (event,) = site.events(mark)
    assert [each["what"]["reference"] for each in event["entity"] if "reference" in each["what"]] == [f"Binary/{a}", "Patient/a"]
    for closed in (b, nobody):
        issue(site.get(f"Binary/{closed}", mine), 403, "forbidden")
        issue(site.ask("PUT", f"Binary/{closed}", mine, body=b"x", Content_Type="text/plain"), 403, "forbidden")
        issue(site.ask("DELETE", f"Binary/{closed}", mine), 403, "forbidden")
    found = site.ask("POST", "Binary", mine, body=b"x", Content_Type="text/plain", X_Security_Context="DocumentReference/da")
    assert found.status_code == 201
    before = files(site)
    issue(
        site.ask("POST", "Binary", mine, body=b"x", Content_Type="text/plain", X_Security_Context="DocumentReference/db"),
        403,
        "forbidden",
    )
    issue(site.ask("POST", "Binary", mine, body=b"x", Content_Type="text/plain"), 403, "forbidden")
    issue(
        site.ask("POST", "Binary", body=b"x", Content_Type="text/plain", X_Security_Context="DocumentReference/none"),
        422,
        "not-found",
    )
    issue(
        site.ask("PUT", f"Binary/{a}", mine, body=b"x", Content_Type="text/plain", X_Security_Context="DocumentReference/db"),
        403,
        "forbidden",
    )
    assert files(site) == before
    reader = site.token("patient/DocumentReference.rs", "a")
    assert site.get(f"Binary/{a}", reader).content == PDF
    issue(site.ask("PUT", f"Binary/{a}", reader, body=b"x", Content_Type="text/plain"), 403, "forbidden")
    issue(site.get(f"Binary/{a}", site.token("system/Patient.rs")), 403, "forbidden")
    site.delete("DocumentReference", "da")  # and then it is nobody's
    issue(site.get(f"Binary/{a}", mine), 403, "forbidden")
    assert site.get(f"Binary/{a}").content == PDF


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, PDF[:1]),
        ("bytes=9-", 206, PDF[9:]),
        ("bytes=-5", 206, PDF[-5:]),
        ("bytes=5-99999", 206, PDF[5:]),
        (f"bytes={len(PDF)}-", 416, b""),
        ("bytes=0-1,3-4", 200, PDF),
        ("lines=1-2", 200, PDF),
        ("bytes=-", 200, PDF),
        ("bytes=9-1", 200, PDF),
    ],
)
@shows("header", "Range")
def test_a_range(site: FhirSite, asked: str, status: int, part: bytes) -> None:
    id_ = stored(site).json()["id"]
    found = site.get(f"Binary/{id_}", Range=asked)
    assert found.status_code == status
    assert found.content == part
    if status == 206:
        start = 0 if len(part) == 1 else PDF.rindex(part)
        assert found.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(PDF)}"


def test_a_browser_runs_nothing_of_it(site: FhirSite) -> None:
    id_ = stored(site, b"<script>1</script>", "text/html").json()["id"]
    found = site.get(f"Binary/{id_}")
    assert found.headers["content-security-policy"] == "sandbox"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["content-disposition"].startswith("attachment")
    assert site.get(f"Binary/{id_}", If_None_Match='W/"1"').status_code == 304
    head = site.ask("HEAD", f"Binary/{id_}")
    assert (head.content, head.headers["content-length"]) == (b"", "18")


def test_who_has_no_token_stores_nothing(site: FhirSite) -> None:
    before = files(site)
    found = site.ask("POST", "Binary", {}, body=b"x" * 5000, Content_Type="text/plain")
    issue(found, 401, "login")
    issue(
        site.ask("POST", "Binary", body=b"x", Content_Type="text/plain", If_None_Exist="contentType=text/plain"), 400, "invalid"
    )
    assert files(site) == before


def test_what_is_too_large_leaves_nothing(tmp_path: Path) -> None:
    with fhir_site(tmp_path / "data", max_instance_bytes=3 << 20) as site:
        issue(site.ask("POST", "Binary", body=b"x" * (4 << 20), Content_Type="text/plain"), 413, "too-long")
        assert files(site) == 0
        id_ = stored(site, b"y" * (3 << 20), "text/plain").json()["id"]
        assert site.get(f"Binary/{id_}").content == b"y" * (3 << 20)


def test_the_document_of_a_manifest_is_the_catalogues(site: FhirSite) -> None:
    send(site.node, Made(study=1, patient="P1"))
    imageshare.publish_all(site.node)
    (id_,) = site.ids("DocumentReference?identifier:missing=false")
    reference = site.get(f"DocumentReference/{id_}").json()
    content = site.get(f"Binary/{id_}").content
    assert hashlib.sha1(content).digest() == base64.b64decode(reference["content"][0]["attachment"]["hash"])
    issue(site.ask("PUT", f"Binary/{id_}", body=b"x", Content_Type="text/plain"), 409, "conflict")
    issue(site.ask("DELETE", f"Binary/{id_}"), 409, "conflict")
    assert site.get(f"Binary/{id_}").content == content
    assert disagreements(site.node.database, site.node.blobs) == []


@given(content=st.binary(max_size=70_000), part=st.integers(1, 5))
@settings(max_examples=15)
def test_base64_in_pieces_is_that_of_the_whole(content: bytes, part: int) -> None:
    pieces = iter([content[at : at + part * 1000] for at in range(0, len(content), part * 1000)])
    assert b"".join(_joined(b"", pieces, b"")) == base64.b64encode(content)


def test_content_is_not_taken_in_another_coding_than_it_is_kept(site: FhirSite) -> None:
    """RFC 9110 section 15.5.16: else what is read later would be gzip, and nothing would say so."""
    refused = site.ask("POST", "Binary", body=PDF, Content_Type="application/pdf", Content_Encoding="gzip")
    issue(refused, 415, "not-supported")
    assert refused.headers["accept-encoding"] == "identity"
