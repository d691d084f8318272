"""What came by DICOM, over FHIR, on both engines: what is told of it, and to whom. FHIR itself: the tests in `fhir/`."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from peers import imageshare
from peers.generated import send
from peers.published import CT_DAY1, CT_OTHER, JSON, MR_SAME_PATIENT, Site, opened, refusal
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from server.records import resources


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        send(node, CT_DAY1, MR_SAME_PATIENT)
        send(node, CT_OTHER)
        imageshare.publish_all(node)
        yield opened(node)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same on SQLite, for what no engine has a part in and no test changes."""
    with imageshare.node(tmp_path_factory.mktemp("fhir") / "data") as node:
        send(node, CT_DAY1, MR_SAME_PATIENT, CT_OTHER)
        imageshare.publish_all(node)
        yield opened(node)


# --- read


def test_read_gives_the_stored_bytes(site: Site) -> None:
    id_ = site.study(CT_DAY1)
    found = site.get(f"ImagingStudy/{id_}")
    with site.node.database.read() as connection:
        stored = resources.read(connection, "ImagingStudy", id_)
    assert found.content == stored.body
    assert found.headers["content-type"] == JSON
    assert found.headers["etag"] == 'W/"1"'
    assert int(parsedate_to_datetime(found.headers["last-modified"]).timestamp()) == stored.updated // 1_000_000
    assert found.headers["cache-control"] == "private, no-cache"
    assert found.headers["x-content-type-options"] == "nosniff"


def test_a_late_instance_makes_a_new_version_and_the_old_one_stays(site: Site) -> None:
    id_ = site.study(CT_DAY1)
    before = site.get(f"ImagingStudy/{id_}")
    send(site.node, replace(CT_DAY1, number=2))
    imageshare.publish_all(site.node)
    after = site.get(f"ImagingStudy/{id_}", **{"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.headers["etag"], after.json()["numberOfInstances"]) == (200, 'W/"2"', 2)
    assert site.get(f"ImagingStudy/{id_}/_history/1").content == before.content
    assert site.get(f"ImagingStudy/{id_}/_history/2").content == after.content
    assert len(site.ids(f"DocumentReference?patient={site.mine}&status=current")) == 2
    assert len(site.ids(f"DocumentReference?patient={site.mine}&status=superseded")) == 1
    assert len(site.ids("ImagingStudy")) == 3


# --- search


def test_search_by_each_parameter(site: Site) -> None:
    first, second, third = site.study(CT_DAY1), site.study(MR_SAME_PATIENT), site.study(CT_OTHER)
    everything = {first, second, third}
    for query, wanted in {
        f"patient={site.mine}": {first, second},
        f"patient=Patient/{site.mine}": {first, second},
        f"patient={site.node.settings.base_url}/fhir/Patient/{site.mine}": {first, second},
        f"patient={site.mine},{site.other}": everything,
        f"patient={site.mine}&patient={site.other}": set(),
        f"_id={first}": {first},
        f"_id={first},{third}": {first, third},
        f"identifier=urn:oid:{CT_OTHER.study_uid}": {third},
        "identifier=A2": {second},
        "identifier=|A2": {second},
        "identifier=urn:dicom:uid|A2": set(),
        "identifier=urn:dicom:uid|": everything,
        "modality=CT": {first, third},
        "modality=http://dicom.nema.org/resources/ontology/DCM|MR": {second},
        "modality=CT,MR": everything,
        f"modality=CT&patient={site.mine}": {first},
        "status=available": everything,
        "status=cancelled": set(),
        "started=2026-01-05": everything,
        "started=ge2026&started=lt2026-01-05": set(),
        "started=2026-01-05T09:30:00%2B00:00": everything,
        "_lastUpdated=gt2020": everything,
        "_lastUpdated=lt2020": set(),
    }.items():
        assert set(site.ids(f"ImagingStudy?{query}")) == wanted, query


def test_what_one_polls_for_is_what_came_since(site: Site) -> None:
    seen = [site.get(f"ImagingStudy/{id_}").json()["meta"]["lastUpdated"] for id_ in site.ids("ImagingStudy")]
    newest = max(seen)
    assert site.ids(f"ImagingStudy?_lastUpdated=gt{newest}") == []
    assert len(site.ids(f"ImagingStudy?_lastUpdated=ge{newest}")) == seen.count(newest)
    late = replace(CT_DAY1, number=9)
    send(site.node, late)
    imageshare.publish_all(site.node)
    assert site.ids(f"ImagingStudy?patient={site.mine}&_lastUpdated=gt{newest}") == [site.study(late)]


def test_a_match_is_told_with_its_url_and_its_bytes(small: Site) -> None:
    id_ = small.study(CT_DAY1)
    found = small.get(f"ImagingStudy?_id={id_}")
    (entry,) = found.json()["entry"]
    assert entry["fullUrl"] == f"{small.node.settings.base_url}/fhir/ImagingStudy/{id_}"
    assert entry["search"] == {"mode": "match"}
    assert small.get(f"ImagingStudy/{id_}").content in found.content
    assert found.json()["total"] == 1
    assert found.json()["link"] == [
        {"relation": "self", "url": f"{small.node.settings.base_url}/fhir/ImagingStudy?_id={id_}"},
    ]
    assert found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("include", ["ImagingStudy:endpoint", "ImagingStudy:endpoint:Endpoint"])
def test_the_endpoint_comes_along_once(site: Site, include: str) -> None:
    found = site.bundle(f"ImagingStudy?_include={include}", site.token("patient/ImagingStudy.rs", site.mine))
    modes = [(entry["search"]["mode"], entry["resource"]["resourceType"]) for entry in found["entry"]]
    assert modes == [("match", "ImagingStudy"), ("match", "ImagingStudy"), ("include", "Endpoint")]
    assert found["total"] == 2
    assert found["entry"][2]["resource"]["address"] == f"{site.node.settings.base_url}/dicomweb"


def test_all_pages_make_the_whole(site: Site) -> None:
    for query in (
        "ImagingStudy?",
        "ImagingStudy?modality=CT,MR&",
        "ImagingStudy?_sort=_lastUpdated&",
        "Patient?",
        "DocumentReference?",
    ):
        whole = site.ids(f"{query}_count=1000")
        found: list[str] = []
        path: str | None = f"{query}_count=1"
        while path:
            page = site.bundle(path)
            assert len(page["entry"]) == 1
            found.append(page["entry"][0]["resource"]["id"])
            following = [link["url"] for link in page["link"] if link["relation"] == "next"]
            assert all(url.startswith(f"{site.node.settings.base_url}/fhir/") for url in following)
            path = following[0].partition("/fhir/")[2] if following else None
        assert found == whole


def test_search_by_post_is_search(small: Site) -> None:
    url = "/fhir/ImagingStudy/_search"
    found = small.http.post(url, data={"patient": small.mine, "_count": "1"}, headers=small.token())
    assert found.status_code == 200
    assert len(found.json()["entry"]) == 1
    (following,) = [link["url"] for link in found.json()["link"] if link["relation"] == "next"]
    assert dict(parse_qsl(urlsplit(following).query))["patient"] == small.mine
    assert len(small.ids(following.partition("/fhir/")[2])) == 1
    both = small.http.post(f"{url}?modality=MR", data={"patient": small.mine}, headers=small.token())
    assert [entry["resource"]["modality"][0]["code"] for entry in both.json()["entry"]] == ["MR"]
    refusal(small.http.post(url, json={"patient": small.mine}, headers=small.token()), 415, "not-supported")
    refusal(small.http.post(url, content=b"patient=%ff", headers=form(small)), 400, "invalid")
    limit = small.node.settings.max_message_bytes
    refusal(small.http.post(url, content=b"a" * (limit + 1), headers=form(small)), 413, "too-long")
    refusal(small.http.post(url, data={"patient": small.mine}), 401, "login")


def form(site: Site) -> dict[str, str]:
    return {**site.token(), "Content-Type": "application/x-www-form-urlencoded"}


# --- access


def test_a_token_that_is_none_of_ours_is_told_so(small: Site) -> None:
    expired = small.node.tokens.issue(client="app", scope="system/*.rs", seconds=-60)
    forged = small.token()["Authorization"][7:-4] + "AAAA"
    for token in (expired, forged, "nonsense"):
        small.node.strangers.flush()  # what follows is the first refusal of its minute
        found = small.get("Patient", {"Authorization": f"Bearer {token}"})
        refusal(found, 401, "login")
        assert 'error="invalid_token"' in found.headers["www-authenticate"]
        assert token not in found.text
    assert {event["outcome"] for event in small.events()[:3]} == {"4"}


def test_another_patient_is_refused_whether_there_is_one_or_not(site: Site) -> None:
    mine = site.token("patient/*.rs", site.mine)
    texts = set()
    for patient in (site.other, "nobody", f"{site.mine},{site.other}"):
        for type_ in ("ImagingStudy", "DocumentReference", "AuditEvent"):
            texts.add(refusal(site.get(f"{type_}?patient={patient}", mine), 403, "forbidden")["diagnostics"])
    assert len(texts) == 1
    for path in (
        f"Patient/{site.other}",
        f"ImagingStudy/{site.study(CT_OTHER)}",
        f"ImagingStudy/{site.study(CT_OTHER)}/_history/1",
    ):
        refusal(site.get(path, mine), 403, "forbidden")
        assert site.get(path).status_code == 200
    texts.add(refusal(site.get("ImagingStudy/nothing", mine), 403, "forbidden")["diagnostics"])
    assert len(texts) == 1
    refusal(site.get("ImagingStudy/nothing"), 404, "not-found")


def test_a_search_finds_the_tokens_patient_only(site: Site) -> None:
    mine = site.token("patient/*.rs", site.mine)
    assert site.ids("Patient", mine) == [site.mine]
    assert site.ids(f"Patient?_id={site.other}", mine) == []
    assert site.ids("Patient?identifier=P2", mine) == []
    assert len(site.ids("ImagingStudy", mine)) == 2
    assert site.ids(f"ImagingStudy?identifier=urn:oid:{CT_OTHER.study_uid}", mine) == []
    assert len(site.ids("ImagingStudy?modality=CT&_total=accurate", mine)) == 1
    assert len(site.ids("DocumentReference", mine)) == 2


@pytest.mark.parametrize(
    "scope", ["", "openid", "patient/Observation.rs", "patient/ImagingStudy.c", "patient/ImagingStudy.rs?x=y"]
)
def test_a_scope_that_does_not_cover_it_opens_nothing(small: Site, scope: str) -> None:
    headers = small.token(scope, small.mine)
    for path in (
        "ImagingStudy",
        f"ImagingStudy/{small.study(CT_DAY1)}",
        f"Patient/{small.mine}",
        "Endpoint",
        "AuditEvent",
        "Binary/x",
    ):
        refusal(small.get(path, headers), 403, "forbidden")


def test_read_and_search_are_granted_apart(small: Site) -> None:
    id_ = small.study(CT_DAY1)
    reads, searches = small.token("patient/ImagingStudy.r", small.mine), small.token("patient/ImagingStudy.s", small.mine)
    assert small.get(f"ImagingStudy/{id_}", reads).status_code == 200
    refusal(small.get("ImagingStudy", reads), 403, "forbidden")
    assert small.get("ImagingStudy", searches).status_code == 200
    refusal(small.get(f"ImagingStudy/{id_}", searches), 403, "forbidden")


def test_a_patient_scope_without_a_patient_opens_nothing(small: Site) -> None:
    for path in ("ImagingStudy", "Endpoint", f"Patient/{small.mine}"):
        refusal(small.get(path, small.token("patient/*.rs")), 403, "forbidden")


def test_who_may_see_studies_may_see_where_they_are(small: Site) -> None:
    headers = small.token("patient/ImagingStudy.rs", small.mine)
    (id_,) = small.ids("Endpoint?status=active", headers)
    assert id_ == small.node.installation.endpoint_id
    assert small.get(f"Endpoint/{id_}", headers).status_code == 200
    assert small.get(f"Endpoint/{id_}", small.token("patient/Endpoint.r", small.mine)).status_code == 200


# --- Binary


def test_the_document_is_told_in_its_own_type_or_as_a_resource(site: Site) -> None:
    found = site.bundle(f"DocumentReference?patient={site.other}", site.token("patient/DocumentReference.rs", site.other))
    (reference,) = (entry["resource"] for entry in found["entry"])
    attachment = reference["content"][0]["attachment"]
    headers = site.token("patient/DocumentReference.r", site.other)
    raw = site.get(attachment["url"], headers)
    assert raw.headers["content-type"] == attachment["contentType"] == "application/dicom"
    assert int(raw.headers["content-length"]) == len(raw.content) == attachment["size"]
    assert raw.headers["content-disposition"].startswith("attachment")
    assert dcmread(DicomBytesIO(raw.content)).SOPClassUID.name == "Key Object Selection Document Storage"
    for resource in (site.get(attachment["url"], headers, Accept=JSON), site.get(f"{attachment['url']}?_format=json", headers)):
        assert resource.json()["contentType"] == "application/dicom"
        assert base64.b64decode(resource.json()["data"]) == raw.content
        assert resource.headers["content-type"] == JSON
    refusal(site.get(attachment["url"], site.token("patient/DocumentReference.r", site.mine)), 403, "forbidden")
    refusal(site.get("Binary/nothing"), 404, "not-found")
    read = site.events()[0:6]
    assert any(each["entity"][0]["what"].get("reference") == attachment["url"] for each in read if each["outcome"] == "0")
