"""Finding studies (SMART Imaging Access, Specification: Finding studies, profiles SmartImagingStudy and SmartWadoEndpoint)."""

import re
from datetime import UTC, datetime
from typing import Any, Final

from conformance.smart.imaging import SCOPE, SLOW, address, bundle, endpoints, resources, search, uid_of, uids
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

_FINDING: Final = "SMART Imaging Access, Finding studies"
AREA = Area("imaging_search", _FINDING)
case = AREA.case
_PROFILE: Final = "SMART Imaging Access, SmartImagingStudy"
_ENDPOINT: Final = "SMART Imaging Access, SmartWadoEndpoint"
_INCLUDE: Final = {"_include": "ImagingStudy:endpoint"}


def _told(system: System) -> dict[str, Any]:
    """The searchset of patient a, with endpoints."""
    return bundle(search(system, system.token(SCOPE), **_INCLUDE))


def _one(system: System) -> dict[str, Any]:
    """The first study in it."""
    found = resources(_told(system))
    check(found, "there are no studies")
    return found[0]


@case("patient", "patient= lists the patient's studies")
def _(system: System) -> None:
    study = system.target.study("a")
    check(study.uid in uids(bundle(search(system, system.token(SCOPE)))), f"study {study.name} is missing")


@case("patient-typed", "patient=Patient/{id} is the same")
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?patient=Patient/{system.target.imaging_patient('a')}", system.token(SCOPE))
    check(sorted(uids(bundle(answer))) == sorted(uids(bundle(search(system, system.token(SCOPE))))), "other studies came")


@case("post", "A search by POST is the same", source="FHIR R4 section 3.1.1.1")
def _(system: System) -> None:
    answer = system.wire.post(
        f"{system.fhir}/ImagingStudy/_search", token=system.token(SCOPE), form={"patient": system.target.imaging_patient("a")}
    )
    if answer.status_code in (404, 405):
        raise Skipped("the system has no search by POST")
    check(sorted(uids(bundle(answer))) == sorted(uids(bundle(search(system, system.token(SCOPE))))), "other studies came")


@case("updated-long-ago", "_lastUpdated=gt with a time long ago lists them all")
def _(system: System) -> None:
    token = system.token(SCOPE)
    found = uids(bundle(search(system, token, _lastUpdated="gt2000-01-01T00:00:00Z")))
    check(sorted(found) == sorted(uids(bundle(search(system, token)))), "some are missing")


@case("updated-in-future", "_lastUpdated=gt with a time to come lists none")
def _(system: System) -> None:
    found = uids(bundle(search(system, system.token(SCOPE), _lastUpdated="gt2999-01-01T00:00:00Z")))
    check(not found, f"{len(found)} came")


@case("updated-exact", "_lastUpdated=gt with meta.lastUpdated of a study leaves that one out")
def _(system: System) -> None:
    study = _one(system)
    updated = study.get("meta", {}).get("lastUpdated")
    if not updated:
        raise Skipped("meta.lastUpdated is not told")
    found = uids(bundle(search(system, system.token(SCOPE), _lastUpdated=f"gt{updated}")))
    check(uid_of(study) not in found, "it came although it was not updated since")
    later = uids(bundle(search(system, system.token(SCOPE), _lastUpdated=f"ge{updated}")))
    check(uid_of(study) in later, "ge leaves it out")


@case("updated-zone", "A time in another zone means the same moment")
def _(system: System) -> None:
    updated = _one(system).get("meta", {}).get("lastUpdated")
    if not updated:
        raise Skipped("meta.lastUpdated is not told")
    moment = datetime.fromisoformat(updated).astimezone(UTC)
    token = system.token(SCOPE)
    first = uids(bundle(search(system, token, _lastUpdated=f"gt{moment.isoformat(timespec='milliseconds')}")))
    from datetime import timedelta, timezone

    elsewhere = moment.astimezone(timezone(timedelta(hours=9)))
    check(
        first == uids(bundle(search(system, token, _lastUpdated=f"gt{elsewhere.isoformat(timespec='milliseconds')}"))),
        "they differ",
    )


@case("identifier", "identifier=urn:oid:... finds the one study")
def _(system: System) -> None:
    study = system.target.study("a")
    found = uids(bundle(search(system, system.token(SCOPE), identifier=f"urn:oid:{study.uid}")))
    check(found == [study.uid], f"{found} came")


@case("identifier-system", "identifier=urn:dicom:uid|urn:oid:... does too")
def _(system: System) -> None:
    study = system.target.study("a")
    found = uids(bundle(search(system, system.token(SCOPE), identifier=f"urn:dicom:uid|urn:oid:{study.uid}")))
    check(found == [study.uid], f"{found} came")


@case("identifier-unknown", "An identifier that no study has finds none")
def _(system: System) -> None:
    check(not uids(bundle(search(system, system.token(SCOPE), identifier="urn:oid:1.2.3.4.5.6.7.8.9"))), "something came")


@case("identifier-of-other", "Nor does the identifier of another patient's study")
def _(system: System) -> None:
    study = system.target.study("b", seen_by="")
    answer = search(system, system.token(SCOPE), identifier=f"urn:oid:{study.uid}")
    check(not uids(bundle(answer)), "another patient's study was told")
    check(
        study.uid not in answer.text.replace(f"urn%3Aoid%3A{study.uid}", "").replace(f"identifier=urn:oid:{study.uid}", ""),
        "its UID was told",
    )


@case("all-three", "patient, identifier and _lastUpdated go together")
def _(system: System) -> None:
    study = system.target.study("a")
    token = system.token(SCOPE)
    found = uids(
        bundle(search(system, token, identifier=f"urn:oid:{study.uid}", _lastUpdated="gt2000-01-01T00:00:00Z", **_INCLUDE))
    )
    check(found == [study.uid], f"{found} came")


@case("include", "_include=ImagingStudy:endpoint brings an Endpoint for every study")
def _(system: System) -> None:
    found = _told(system)
    for each in resources(found):
        check(endpoints(found, each), f"study {uid_of(each)} has no Endpoint in the Bundle")


@case("include-mode", "What was included says so, and is not counted as a match", source="FHIR R4 section 3.1.1.5.6")
def _(system: System) -> None:
    found = _told(system)
    for each in found.get("entry", ()):
        wanted = "match" if each["resource"]["resourceType"] == "ImagingStudy" else "include"
        mode = each.get("search", {}).get("mode")
        check(mode in (wanted, "outcome"), f"{each['resource']['resourceType']} has search.mode {mode}")
    total = found.get("total")
    check(total is None or total >= len(resources(found)), f"total is {total}")


@case("same-page", "On every page the Endpoint is on the page of its study")
def _(system: System) -> None:
    found = bundle(search(system, system.token(SCOPE), _count="1", **_INCLUDE))
    seen = 0
    for _page in range(50):
        for each in resources(found):
            seen += 1
            check(endpoints(found, each), f"study {uid_of(each)} is on a page without its Endpoint")
        following = next((link["url"] for link in found.get("link", ()) if link["relation"] == "next"), None)
        if following is None:
            break
        found = bundle(system.wire.get(following, token=system.token(SCOPE), headers={"Accept": "application/fhir+json"}))
    check(seen == len(resources(_told(system))), f"{seen} studies on all pages")


@case("next-page-is-no-pass", "The link to the next page is worth nothing without a token, or with another's")
def _(system: System) -> None:
    found = bundle(search(system, system.token(SCOPE), _count="1"))
    following = next((link["url"] for link in found.get("link", ()) if link["relation"] == "next"), None)
    if following is None:
        raise Skipped("everything is on one page")
    refused(system.wire.get(following), 401)
    other = system.wire.get(following, token=system.token(SCOPE, user="patient_b", patient="b"))
    refused(other, 400, 401, 403, 404, 410)


@case("no-token-in-address", "No token stands in the address", source=_ENDPOINT)
def _(system: System) -> None:
    token = system.token(SCOPE)
    check(token not in search(system, token, **_INCLUDE).text, "the access token stands in the answer")


@case("address-works", "What the address names answers for the study")
def _(system: System) -> None:
    study, token = system.target.study("a"), system.token(SCOPE)
    url = f"{address(system, token, study)}/studies/{study.uid}/metadata"
    answer = system.wire.get(url, token=token, headers={"Accept": "application/dicom+json"})
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("retry", "A search that has to wait is 503 with Retry-After")
def _(system: System) -> None:
    pending = next((each for each in system.target.studies if each.pending), None)
    if pending is None:
        raise Skipped("the target file has no study that is pending")
    answer = search(system, system.token(SCOPE), pending.patient, identifier=f"urn:oid:{pending.uid}")
    check(answer.status_code == SLOW, f"status {answer.status_code}")
    check(re.fullmatch(r"\d+", answer.headers.get("retry-after", "")), f"Retry-After is {answer.headers.get('retry-after')!r}")


@case("self-link", "The Bundle says what was searched for", source="FHIR R4 section 3.1.1.3.1")
def _(system: System) -> None:
    found = _told(system)
    own = next((link["url"] for link in found.get("link", ()) if link["relation"] == "self"), "")
    check("patient=" in own, f"the self link is {own!r}")


@case(
    "clinical-id",
    "A separate imaging server knows the patient by the id of the clinical one",
    source="SMART Imaging Access, Access permissions",
)
def _(system: System) -> None:
    if system.clinical == system.fhir:
        raise Skipped("it is one system")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", system.token(SCOPE))
    check(system.target.study("a").uid in uids(bundle(answer)), "the study is missing")


@case("unknown-patient", "A patient who does not exist is refused like a stranger")
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), "kit-nobody"), 403)


@case("no-patient", "A search without patient tells at most the token's own")
def _(system: System) -> None:
    answer = system.read("ImagingStudy", system.token(SCOPE))
    if answer.status_code != 200:
        refused(answer, 400, 403)
        return
    for each in resources(dict(answer.json())):
        check(each["subject"]["reference"].endswith(system.target.imaging_patient("a")), "another patient's study was told")


@case("read-endpoint", "An Endpoint that is a resource of its own can be read where its scope is granted")
def _(system: System) -> None:
    found = _told(system)
    for each in resources(found, "Endpoint"):
        if not any(
            str(entry.get("fullUrl", "")).startswith("urn:uuid:") for entry in found["entry"] if entry["resource"] is each
        ):
            answer = system.read(f"Endpoint/{each['id']}", system.token(SCOPE))
            check(answer.status_code in (200, 403), f"status {answer.status_code}")
