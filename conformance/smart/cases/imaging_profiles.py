"""The resources that a search gives (SMART Imaging Access, profiles SmartImagingStudy and SmartWadoEndpoint)."""

import re
from typing import Any, Final

from conformance.smart.imaging import FLAG, SCOPE, bundle, resources, search, uid_of, wado
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

_FINDING: Final = "SMART Imaging Access, Finding studies"
_PROFILE: Final = "SMART Imaging Access, SmartImagingStudy"
_ENDPOINT: Final = "SMART Imaging Access, SmartWadoEndpoint"
AREA = Area("imaging_profiles", _PROFILE)
case = AREA.case
_INCLUDE: Final = {"_include": "ImagingStudy:endpoint"}


def _told(system: System) -> dict[str, Any]:
    """The searchset of patient a, with endpoints."""
    return bundle(search(system, system.token(SCOPE), **_INCLUDE))


@case("identifier-profile", "Each has one identifier urn:dicom:uid with urn:oid:", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        found = [one for one in each.get("identifier", ()) if one.get("system") == "urn:dicom:uid"]
        check(len(found) == 1, f"{len(found)} such identifiers")
        check(re.fullmatch(r"urn:oid:[0-9.]+", str(found[0].get("value"))), f"its value is {found[0].get('value')}")


@case("status", "Each has a status", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        check(
            each.get("status") in ("registered", "available", "cancelled", "entered-in-error", "unknown"), f"{each.get('status')}"
        )


@case("subject", "Each is of the patient who was asked for", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        reference = str(each.get("subject", {}).get("reference", ""))
        check(reference.endswith(f"Patient/{system.target.imaging_patient('a')}"), f"subject is {reference}")


@case("modality", "Each has a modality of DICOM", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        found = each.get("modality", ())
        check(found and all(one.get("code") for one in found), "it has none")


@case("endpoint-count", "Each has an endpoint", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        check(each.get("endpoint"), "it has none")


@case("counts", "Counts of series and instances agree with what is listed", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        series = each.get("series")
        if series is None:
            continue
        check(
            each.get("numberOfSeries") in (None, len(series)),
            f"numberOfSeries {each.get('numberOfSeries')}, {len(series)} listed",
        )
        total = sum(one.get("numberOfInstances", 0) for one in series)
        check(
            each.get("numberOfInstances") in (None, total),
            f"numberOfInstances {each.get('numberOfInstances')}, {total} in its series",
        )


@case("series", "Series and instances have uid, modality and SOP class", source=_PROFILE)
def _(system: System) -> None:
    for each in resources(_told(system)):
        for series in each.get("series", ()):
            check(series.get("uid") and series.get("modality", {}).get("code"), "a series lacks uid or modality")
            check(
                all(one.get("uid") and one.get("sopClass") for one in series.get("instance", ())),
                "an instance lacks uid or sopClass",
            )


@case("known-series", "The series that the target file names are listed", source=_PROFILE)
def _(system: System) -> None:
    study = system.target.study("a")
    found = next((each for each in resources(_told(system)) if uid_of(each) == study.uid), None)
    check(found is not None, f"study {study.name} is missing")
    listed = {series.get("uid") for series in (found or {}).get("series", ())}
    if not listed:
        raise Skipped("series are not listed")
    check(set(study.series) <= listed, f"{sorted(set(study.series) - listed)} are not listed")


@case("connection-type", "The Endpoint's connection type is dicom-wado-rs", source=_ENDPOINT)
def _(system: System) -> None:
    found = _told(system)
    for each in resources(found):
        endpoint = wado(found, each)
        check(endpoint is not None, f"study {uid_of(each)} has none")
        coding = (endpoint or {})["connectionType"]
        check(
            coding.get("system") == "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            f"system {coding.get('system')}",
        )


@case("address", "Its address is an absolute URL without query, and without a slash of its own", source=_ENDPOINT)
def _(system: System) -> None:
    found = _told(system)
    for each in resources(found):
        url = str((wado(found, each) or {}).get("address", ""))
        check(re.fullmatch(r"https?://[^?#\s]+", url), f"the address is {url!r}")
        check("/studies" not in url, "it is the study's URL, and not the base")


@case("active", "Its status is active, with a payload type", source=_ENDPOINT)
def _(system: System) -> None:
    found = _told(system)
    for each in resources(found):
        endpoint = wado(found, each) or {}
        check(endpoint.get("status") == "active", f"status {endpoint.get('status')}")
        check(endpoint.get("payloadType"), "it has no payloadType, which FHIR R4 wants")


@case("flag", "Where it says requires-access-token, it says it as a boolean", source=_ENDPOINT)
def _(system: System) -> None:
    found = _told(system)
    flags = [
        one.get("valueBoolean")
        for each in resources(found)
        for one in (wado(found, each) or {}).get("extension", ())
        if FLAG in one.get("url", "")
    ]
    if not flags:
        raise Skipped("it is not there; newer drafts have no such extension")
    check(all(isinstance(each, bool) for each in flags), f"{flags}")
