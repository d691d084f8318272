"""ImagingStudy searches and WADO-RS requests as a SMART imaging app makes them (SMART Imaging Access)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx2

from conformance.smart.kit import Failed, Skipped, check
from conformance.smart.system import System
from conformance.smart.target import Study

SCOPE: Final = "launch/patient patient/ImagingStudy.rs"
WHOLE: Final = "multipart/related; type=application/dicom; transfer-syntax=*"
METADATA: Final = "application/dicom+json"
FLAG: Final = "requires-access-token"
SLOW: Final = 503


def search(system: System, token: str, patient: str = "a", **parameters: str) -> httpx2.Response:
    """A search for ImagingStudy of this patient; `_` at the beginning of a name stays."""
    return system.wire.get(
        f"{system.fhir}/ImagingStudy",
        token=token,
        params={"patient": _id_of(system, patient), **parameters},
        headers={"Accept": "application/fhir+json"},
    )


def _id_of(system: System, patient: str) -> str:
    """The id of a patient by the name in the target file; what is no name stays."""
    return system.target.imaging_patient(patient) if patient in system.target.patients else patient


def bundle(answer: httpx2.Response) -> dict[str, Any]:
    """The searchset of an answer; fails the case where it is none."""
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
    found = dict(answer.json())
    check(found.get("resourceType") == "Bundle" and found.get("type") == "searchset", f"it is no searchset: {found.get('type')}")
    return found


def resources(found: Mapping[str, Any], type_: str = "ImagingStudy") -> list[dict[str, Any]]:
    return [each["resource"] for each in found.get("entry", ()) if each.get("resource", {}).get("resourceType") == type_]


def uids(found: Mapping[str, Any]) -> list[str]:
    """The Study Instance UIDs of a searchset."""
    return [uid_of(each) for each in resources(found)]


def uid_of(study: Mapping[str, Any]) -> str:
    """The Study Instance UID, without `urn:oid:`; empty where there is none."""
    for each in study.get("identifier", ()):
        if each.get("system") == "urn:dicom:uid":
            return str(each.get("value", "")).removeprefix("urn:oid:")
    return ""


def endpoints(found: Mapping[str, Any], study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Endpoints that a study refers to: contained, or elsewhere in the Bundle."""
    contained = {f"#{each.get('id')}": each for each in study.get("contained", ())}
    around: dict[str, dict[str, Any]] = {}
    for entry in found.get("entry", ()):
        resource = entry.get("resource", {})
        if resource.get("resourceType") == "Endpoint":
            around[str(entry.get("fullUrl", ""))] = resource
            around[f"Endpoint/{resource.get('id')}"] = resource
    wanted = [str(each.get("reference", "")) for each in study.get("endpoint", ())]
    return [each for name in wanted if (each := _resolved(name, contained, around)) is not None]


def _resolved(name: str, contained: Mapping[str, dict[str, Any]], around: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    tail = "/".join(name.split("/")[-2:])
    return contained.get(name) or around.get(name) or around.get(tail)


def wado(found: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first of them that is for WADO-RS."""
    for each in endpoints(found, study):
        if each.get("connectionType", {}).get("code") == "dicom-wado-rs":
            return each
    return None


def address(system: System, token: str, study: Study) -> str:
    """The WADO-RS base of a study as its search tells it; what the target file says where it is not told."""
    answer = search(system, token, study.patient, identifier=f"urn:oid:{study.uid}", _include="ImagingStudy:endpoint")
    if answer.status_code == 200:
        found = dict(answer.json())
        for each in resources(found):
            endpoint = wado(found, each)
            if endpoint:
                return str(endpoint.get("address", "")).rstrip("/")
    return base(system)


def base(system: System) -> str:
    """The WADO-RS base that the target file names."""
    if not system.target.dicomweb:
        raise Skipped("no Endpoint was told, and the target file has no dicomweb")
    return system.target.dicomweb.rstrip("/")


def usual_base(system: System) -> str:
    """Where images are asked for by whom they are not for."""
    return system.target.dicomweb.rstrip("/") or address(system, system.token(SCOPE), system.target.study("a"))


def retrieved(
    system: System, token: str | None, study: Study, path: str = "", *, accept: str = WHOLE, at: str = "", **headers: str
) -> httpx2.Response:
    """A WADO-RS request below `/studies/{uid}` of this study, at `at` or where a search with the same token says."""
    root = at or (address(system, token, study) if token else base(system))
    return system.wire.get(f"{root}/studies/{study.uid}{path}", token=token, headers={"Accept": accept, **headers})


def dicom_parts(answer: httpx2.Response) -> list[bytes]:
    """The bodies of a multipart/related answer; fails the case where it is none."""
    kind = answer.headers.get("content-type", "")
    check(kind.startswith("multipart/related"), f"Content-Type is {kind}")
    boundary = next((each.strip()[9:].strip('"') for each in kind.split(";") if each.strip().startswith("boundary=")), "")
    check(boundary, "there is no boundary")
    pieces = (b"\r\n" + answer.content).split(b"\r\n--" + boundary.encode())
    check(pieces[-1].startswith(b"--"), "the body is cut off: its last boundary is missing")
    return [each.partition(b"\r\n\r\n")[2] for each in pieces[1:-1]]


def instance_of(study: Study) -> tuple[str, str]:
    """Series and SOP Instance UID of an instance with frames."""
    if len(study.instance) != 2:
        raise Skipped(f"the target file names no instance of study {study.name}")
    return study.instance[0], study.instance[1]


def paths(study: Study) -> Iterator[tuple[str, str, str]]:
    """Every form of retrieval of a study: name, path, Accept."""
    yield "study", "", WHOLE
    yield "study metadata", "/metadata", METADATA
    yield "study rendered", "/rendered", "image/jpeg"
    yield "study thumbnail", "/thumbnail", "image/jpeg"
    if study.series:
        series = f"/series/{study.series[0]}"
        yield "series", series, WHOLE
        yield "series metadata", f"{series}/metadata", METADATA
        yield "series rendered", f"{series}/rendered", "image/jpeg"
    if len(study.instance) == 2:
        instance = f"/series/{study.instance[0]}/instances/{study.instance[1]}"
        yield "instance", instance, WHOLE
        yield "instance metadata", f"{instance}/metadata", METADATA
        yield "instance rendered", f"{instance}/rendered", "image/jpeg"
        yield "frames", f"{instance}/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*"


def denied(answer: httpx2.Response, *, what: str) -> None:
    """Fails the case unless this is a refusal without any DICOM data. Not found says nothing either."""
    if answer.status_code not in (401, 403, 404, 410):
        raise Failed(f"{what}: status {answer.status_code} instead of a refusal")
    kind = answer.headers.get("content-type", "")
    check("dicom" not in kind or answer.status_code >= 400, f"{what}: DICOM came with the refusal")
    check(b"DICM" not in answer.content, f"{what}: DICOM came with the refusal")
