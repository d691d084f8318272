"""Another patient's studies (SMART Imaging Access, Specification: Access control, Retrieval authorization)."""

import re
from typing import Any, Final
from urllib.parse import urljoin

from conformance.smart.imaging import (
    METADATA,
    SCOPE,
    base,
    bundle,
    denied,
    paths,
    resources,
    retrieved,
    search,
    usual_base,
)
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

_CHECKS: Final = "SMART Imaging Access, Token validation and access enforcement"
_CONTROL: Final = "SMART Imaging Access, Access control"
_RETRIEVAL: Final = "SMART Imaging Access, Retrieval authorization"
AREA = Area("imaging_decisions", _CONTROL)
case = AREA.case


_PATHS: Final = (
    "study", "study metadata", "study rendered", "study thumbnail", "series", "series metadata", "series rendered", "instance",
    "instance metadata", "instance rendered", "frames",
)  # fmt: skip


def _path(system: System, study: Any, name: str) -> tuple[str, str]:
    """Path and Accept of one form of retrieval."""
    for each, path, accept in paths(study):
        if each == name:
            return path, accept
    raise Skipped(f"the target file does not name what {name} needs of study {study.name}")


@case("wrong-patient", "A search for another patient is 403, and no empty Bundle", 119, 136, source=_CONTROL)
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), "b"), 403)


@case("wrong-patient-identifier", "Also with the identifier of a study", 136, source=_CONTROL)
def _(system: System) -> None:
    study = system.target.study("b", seen_by="")
    refused(search(system, system.token(SCOPE), "b", identifier=f"urn:oid:{study.uid}"), 403)


@case("wrong-patient-updated", "Also with _lastUpdated", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), "b", _lastUpdated="gt2000-01-01T00:00:00Z"), 403)


@case("wrong-patient-include", "Also with _include", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), "b", _include="ImagingStudy:endpoint"), 403)


@case("wrong-patient-post", "Also by POST", 136, source=_CONTROL)
def _(system: System) -> None:
    form = {"patient": system.target.imaging_patient("b")}
    answer = system.wire.post(f"{system.fhir}/ImagingStudy/_search", token=system.token(SCOPE), form=form)
    refused(answer, 403, 404, 405)


@case("two-patients", "A list of patients with another among them tells nothing of the other", 136, source=_CONTROL)
def _(system: System) -> None:
    answer = search(system, system.token(SCOPE), f"{system.target.imaging_patient('a')},{system.target.imaging_patient('b')}")
    if answer.status_code == 200:
        _only_a(system, dict(answer.json()))
    else:
        refused(answer, 400, 403)


@case("patient-twice", "Nor does patient= twice", 136, source=_CONTROL)
def _(system: System) -> None:
    pairs = [("patient", system.target.imaging_patient("a")), ("patient", system.target.imaging_patient("b"))]
    answer = system.wire.get(f"{system.fhir}/ImagingStudy", token=system.token(SCOPE), params=pairs)
    if answer.status_code == 200:
        _only_a(system, dict(answer.json()))
    else:
        refused(answer, 400, 403)


@case("subject", "Nor does subject= in place of patient=", 136, source=_CONTROL)
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?subject=Patient/{system.target.imaging_patient('b')}", system.token(SCOPE))
    if answer.status_code == 200:
        check(not resources(dict(answer.json())), "another patient's studies were told")
    else:
        refused(answer, 400, 403)


@case("absolute-patient", "Nor does patient= with an absolute URL", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), f"{system.fhir}/Patient/{system.target.imaging_patient('b')}"), 400, 403)


@case("compartment", "Nor does the compartment of another patient", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(system.read(f"Patient/{system.target.imaging_patient('b')}/ImagingStudy", system.token(SCOPE)), 400, 403, 404, 405)


@case("other-id", "A study of another patient is not read by its id", 136)
def _(system: System) -> None:
    other = resources(bundle(search(system, system.token(SCOPE, user="patient_b", patient="b"), "b")))
    if not other:
        raise Skipped("patient b has no study")
    for path in (
        f"ImagingStudy/{other[0]['id']}",
        f"ImagingStudy/{other[0]['id']}/_history",
        f"ImagingStudy?_id={other[0]['id']}",
    ):
        answer = system.read(path, system.token(SCOPE))
        if answer.status_code == 200 and "?" in path:
            check(not resources(dict(answer.json())), f"{path}: told")
        else:
            refused(answer, *((400, 403) if "?" in path else (403, 404)))


def _only_a(system: System, found: dict[str, Any]) -> None:
    for each in resources(found):
        check(each["subject"]["reference"].endswith(system.target.imaging_patient("a")), "another patient's study was told")


@case("reverse-include", "_revinclude brings nothing of others", source=_CONTROL)
def _(system: System) -> None:
    answer = search(system, system.token(SCOPE), _revinclude="ImagingStudy:basedon", _include="*")
    if answer.status_code == 200:
        _only_a(system, dict(answer.json()))
        check(
            "Patient" not in {each["resource"]["resourceType"] for each in answer.json().get("entry", ())},
            "the Patient came along",
        )
    else:
        refused(answer, 400, 403)


@case("has", "_has tells nothing of others", source=_CONTROL)
def _(system: System) -> None:
    answer = system.read(
        f"ImagingStudy?_has:Observation:subject:status=final&patient={system.target.imaging_patient('b')}", system.token(SCOPE)
    )
    refused(answer, 400, 403)


def _wrong_patient(name: str) -> None:
    @case(f"wado-wrong-patient-{name.replace(' ', '-')}", f"Another patient's {name} is refused", 136, source=_RETRIEVAL)
    def _(system: System) -> None:
        study = system.target.study("b", seen_by="")
        path, accept = _path(system, study, name)
        denied(retrieved(system, system.token(SCOPE), study, path, accept=accept, at=usual_base(system)), what=name)


def _without_scope(name: str) -> None:
    @case(
        f"wado-other-scope-{name.replace(' ', '-')}", f"{name} is refused without a scope for ImagingStudy", 95, source=_RETRIEVAL
    )
    def _(system: System) -> None:
        study = system.target.study("a")
        path, accept = _path(system, study, name)
        token = system.token("launch/patient patient/Patient.rs")
        denied(retrieved(system, token, study, path, accept=accept, at=usual_base(system)), what=name)


for _name in _PATHS:
    _wrong_patient(_name)
for _name in ("study", "study metadata", "series", "instance", "frames", "instance rendered"):
    _without_scope(_name)


@case(
    "wado-wrong-patient-bulk-data",
    "Another patient's bulk data are refused, by the URL that metadata name",
    136,
    source=_RETRIEVAL,
)
def _(system: System) -> None:
    study = system.target.study("b", seen_by="patient_b")
    own = system.token(SCOPE, user="patient_b", patient="b")
    answer = retrieved(system, own, study, "/metadata", accept=METADATA)
    check(answer.status_code == 200, f"metadata: status {answer.status_code}")
    urls = re.findall(r'"BulkDataURI"\s*:\s*"([^"]+)"', answer.text)
    if not urls:
        raise Skipped("metadata name no bulk data")
    for each in sorted(set(urls))[:5]:
        where = urljoin(str(answer.url), each)
        denied(system.wire.get(where, token=system.token(SCOPE), headers={"Accept": "*/*"}), what="bulk data")
        denied(system.wire.get(where, headers={"Accept": "*/*"}), what="bulk data without a token")


@case("wado-mixed", "A series of another patient is not to be had below the own study", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    own, other = system.target.study("a"), system.target.study("b", seen_by="")
    if not other.series:
        raise Skipped("the target file names no series of patient b")
    for path in (f"/series/{other.series[0]}", f"/series/{other.series[0]}/metadata", f"/../{other.uid}", f"/%2e%2e/{other.uid}"):
        denied(retrieved(system, system.token(SCOPE), own, path, at=usual_base(system)), what=path)


@case("wado-several", "A list of studies in one URL opens none of others", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    own, other = system.target.study("a"), system.target.study("b", seen_by="")
    for each in (f"{own.uid},{other.uid}", f"{own.uid}\\{other.uid}", f"{own.uid}%5C{other.uid}", "*"):
        answer = system.wire.get(
            f"{usual_base(system)}/studies/{each}/metadata", token=system.token(SCOPE), headers={"Accept": METADATA}
        )
        check(answer.status_code >= 400, f"studies/{each}: status {answer.status_code}")


@case("qido", "A DICOMweb search tells of the own patient alone", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    other = system.target.study("b", seen_by="")
    for query in ("", f"?StudyInstanceUID={other.uid}", "?PatientName=*", "?limit=1000"):
        answer = system.wire.get(f"{usual_base(system)}/studies{query}", token=system.token(SCOPE), headers={"Accept": METADATA})
        if answer.status_code == 200 and answer.content:
            check(other.uid not in answer.text, f"studies{query} told another patient's study")
        else:
            check(answer.status_code in (204, 400, 401, 403, 404, 405), f"status {answer.status_code}")


@case("wado-without-search", "A study opens to who may see it, searched for or not", source=_RETRIEVAL)
def _(system: System) -> None:
    study = system.target.study("a")
    grant = system.fresh(SCOPE)
    answer = retrieved(system, grant.token, study, "/metadata", accept=METADATA, at=base(system))
    check(answer.status_code == 200, f"status {answer.status_code}")
