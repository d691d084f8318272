"""Studies and series that are withheld, and backend clients (SMART Imaging Access, Specification: Access control, Backend Services)."""

from typing import Final

from conformance.smart.imaging import METADATA, SCOPE, base, bundle, denied, paths, resources, retrieved, search, uids, usual_base
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

_CHECKS: Final = "SMART Imaging Access, Token validation and access enforcement"
_CONTROL: Final = "SMART Imaging Access, Access control"
_RETRIEVAL: Final = "SMART Imaging Access, Retrieval authorization"
AREA = Area("imaging_withheld", _CONTROL)
case = AREA.case


def _backend(system: System) -> str:
    system.target.client("backend")
    return system.backend_grant("system/ImagingStudy.rs").token


@case(
    "backend-search",
    "A backend client finds the studies that it may see, and no others",
    142,
    source="SMART Imaging Access, Backend Services",
)
def _(system: System) -> None:
    study = system.target.study("a", seen_by="backend")
    found = uids(bundle(search(system, _backend(system), _include="ImagingStudy:endpoint")))
    check(study.uid in found, f"study {study.name} is missing")
    hidden = [each.uid for each in system.target.studies if "backend" in each.withheld_from]
    check(not set(hidden) & set(found), "a study was told that is withheld from it")


@case("backend-retrieve", "And retrieves them", 142, source="SMART Imaging Access, Backend Services")
def _(system: System) -> None:
    study = system.target.study("a", seen_by="backend")
    answer = retrieved(system, _backend(system), study)
    check(answer.status_code == 200, f"status {answer.status_code}")


@case(
    "backend-withheld",
    "A study that is withheld from it is refused in every form",
    142,
    119,
    source="SMART Imaging Access, Backend Services",
)
def _(system: System) -> None:
    study = system.target.withheld_study("backend")
    for name, path, accept in paths(study):
        denied(retrieved(system, _backend(system), study, path, accept=accept, at=usual_base(system)), what=name)


@case(
    "backend-wrong-patient",
    "A patient outside its authorization is 403",
    142,
    119,
    source="SMART Imaging Access, Backend Services",
)
def _(system: System) -> None:
    client = system.target.client("backend")
    outside = [each for each in system.target.patients if client.patients and each not in client.patients]
    if not outside:
        raise Skipped("the backend client may see every patient of the target file")
    refused(search(system, _backend(system), outside[0]), 403)
    study = system.target.study(outside[0], seen_by="")
    denied(retrieved(system, _backend(system), study, at=usual_base(system)), what="study")


@case("backend-scope", "Its scope for studies opens nothing else", 266, source="SMART Imaging Access, Backend Services")
def _(system: System) -> None:
    refused(system.read(f"Patient/{system.target.imaging_patient('a')}", _backend(system)), 403)
    refused(system.read(f"DiagnosticReport?patient={system.target.imaging_patient('a')}", _backend(system)), 403)


def _for(user: str) -> None:
    """The same for a proxy and for a practitioner: what is withheld is as if it were not there."""

    def token(system: System, study_patient: str) -> str:
        return system.token(SCOPE, user=user, patient=study_patient)

    @case(f"{user}-omitted", f"A study withheld from a {user} is silently left out", 119, 140, source=_CONTROL)
    def _(system: System) -> None:
        hidden = system.target.withheld_study(user)
        shown = system.target.study(hidden.patient, seen_by=user)
        found = bundle(search(system, token(system, hidden.patient), hidden.patient, _include="ImagingStudy:endpoint"))
        check(hidden.uid not in str(found), "it was told")
        check(shown.uid in uids(found), f"study {shown.name} is missing")
        check(found.get("total") in (None, len(resources(found))), f"total is {found.get('total')}: it counts what is withheld")

    @case(f"{user}-omitted-identifier", "Also where it is asked for by its UID", 119, source=_CONTROL)
    def _(system: System) -> None:
        hidden = system.target.withheld_study(user)
        found = bundle(search(system, token(system, hidden.patient), hidden.patient, identifier=f"urn:oid:{hidden.uid}"))
        check(not resources(found), "it was told")

    @case(f"{user}-withheld", "It is refused in every form of retrieval", 119, source=_RETRIEVAL)
    def _(system: System) -> None:
        hidden = system.target.withheld_study(user)
        for name, path, accept in paths(hidden):
            denied(retrieved(system, token(system, hidden.patient), hidden, path, accept=accept, at=base(system)), what=name)

    @case(f"{user}-partial", "A study of which a series is withheld is denied as a whole, not trimmed", 119, source=_RETRIEVAL)
    def _(system: System) -> None:
        study = system.target.partial_study(user)
        answer = retrieved(system, token(system, study.patient), study, at=base(system))
        check(answer.status_code == 403, f"status {answer.status_code}")

    @case(f"{user}-partial-series", "Its other series may be had, the withheld one not", 119, source=_RETRIEVAL)
    def _(system: System) -> None:
        study = system.target.partial_study(user)
        own = token(system, study.patient)
        for series in study.withheld_series:
            denied(retrieved(system, own, study, f"/series/{series}", at=base(system)), what="the withheld series")
            denied(
                retrieved(system, own, study, f"/series/{series}/metadata", accept=METADATA, at=base(system)), what="its metadata"
            )
        for series in set(study.series) - set(study.withheld_series):
            answer = retrieved(system, own, study, f"/series/{series}", at=base(system))
            check(answer.status_code in (200, 403), f"status {answer.status_code} for another series")

    @case(f"{user}-partial-metadata", "Nothing of the withheld series is in metadata", 119, source=_RETRIEVAL)
    def _(system: System) -> None:
        study = system.target.partial_study(user)
        answer = retrieved(system, token(system, study.patient), study, "/metadata", accept=METADATA, at=base(system))
        check(answer.status_code in (200, 403), f"status {answer.status_code}")
        if answer.status_code == 200:
            check(not any(each in answer.text for each in study.withheld_series), "its UID is in the metadata of the study")


_for("proxy")
_for("practitioner")
