"""Scopes v1 and v2, and that they never widen what somebody may see (SMART App Launch 2.2, Scopes and Launch Context)."""

from collections.abc import Sequence
from typing import Final

import httpx2

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

AREA = Area("scopes")
case = AREA.case

_STUDY: Final = "ImagingStudy"


def _asks(system: System, token: str, request: str) -> httpx2.Response:
    """One of the requests that the table below names, about patient a."""
    patient = system.target.patient("a")
    match request:
        case "search":
            return system.read(f"ImagingStudy?patient={patient}", token)
        case "read":
            return system.read(f"ImagingStudy/{_id(system)}", token)
        case "vread-history":
            return system.read(f"ImagingStudy/{_id(system)}/_history", token)
        case "patient":
            return system.read(f"Patient/{patient}", token)
        case "create":
            return system.wire.post(
                f"{system.fhir}/Basic",
                token=token,
                headers={"Content-Type": "application/fhir+json"},
                json={"resourceType": "Basic", "code": {"text": "kit"}, "subject": {"reference": f"Patient/{patient}"}},
            )
        case _:
            raise Skipped(f"no request {request}")


def _id(system: System) -> str:
    """The logical id of a study of patient a."""
    token = system.token("launch/patient patient/ImagingStudy.rs")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", token)
    found = [each["resource"]["id"] for each in answer.json().get("entry", ()) if each["resource"]["resourceType"] == _STUDY]
    if not found:
        raise Skipped("patient a has no study here")
    return str(found[0])


_V1, _V2, _PATIENT = 369, 370, 367


def _matrix(scope: str, *numbers: int, opens: Sequence[str] = (), shuts: Sequence[str] = (), user: str = "patient") -> None:
    """What a scope opens and what it does not, a case for each request."""

    def add(request: str, opened: bool) -> None:
        @case(
            f"{scope.replace(' ', '+')}~{request}", f"{scope} {'opens' if opened else 'does not open'}: {request}", *numbers, 95
        )
        def _(system: System) -> None:
            asked = scope if user == "practitioner" else f"launch/patient {scope}"
            answer = _asks(system, system.token(asked, user=user), request)
            if opened:
                check(answer.status_code < 300, f"status {answer.status_code}: {answer.text[:200]}")
            else:
                refused(answer)

    for each in opens:
        add(each, True)
    for each in shuts:
        add(each, False)


_matrix("patient/ImagingStudy.rs", _V2, _PATIENT, opens=("search", "read", "vread-history"), shuts=("patient", "create"))
_matrix("patient/ImagingStudy.r", _V2, opens=("read",), shuts=("search",))
_matrix("patient/ImagingStudy.s", _V2, opens=("search",), shuts=("read",))
_matrix("patient/*.rs", _V2, 144, opens=("search", "read", "patient"), shuts=("create",))
_matrix("patient/ImagingStudy.read", _V1, 128, opens=("search", "read"), shuts=("patient", "create"))
_matrix("patient/*.read", _V1, 128, opens=("search", "read", "patient"), shuts=("create",))
_matrix("patient/ImagingStudy.write", _V1, 128, shuts=("search", "read"))
_matrix("patient/Patient.rs", _V2, opens=("patient",), shuts=("search", "read"))
_matrix("patient/Observation.rs", _V2, shuts=("search", "read", "patient"))
_matrix("patient/ImagingStudy.cud", _V2, shuts=("search", "read"))
_matrix("user/ImagingStudy.rs", 140, 368, opens=("search", "read"), shuts=("patient",), user="practitioner")
_matrix("user/*.rs", 140, 144, opens=("search", "read", "patient"), shuts=("create",), user="practitioner")
_matrix("user/Patient.r", 140, opens=("patient",), shuts=("search",), user="practitioner")


@case("v1-stays-v1", "A scope that was asked in v1 is granted in v1", 127, 369)
def _(system: System) -> None:
    check("patient/ImagingStudy.read" in system.grant("launch/patient patient/ImagingStudy.read").scopes, "it was rewritten")


@case("v2-stays-v2", "A scope that was asked in v2 is granted in v2", 78, 370)
def _(system: System) -> None:
    check("patient/ImagingStudy.rs" in system.grant("launch/patient patient/ImagingStudy.rs").scopes, "it was rewritten")


@case("unordered", "Letters in another order are never taken for something else", 370)
def _(system: System) -> None:
    answered = system.authorize("launch/patient patient/ImagingStudy.sr patient/Patient.rs")
    if "code" not in answered.landing.parameters:
        check(answered.error == "invalid_scope" or not answered.landing.redirect, f"error {answered.error}")
        return
    found = system.granted_by(system.redeem(answered)).scopes
    check(
        not any(each.startswith("patient/ImagingStudy") for each in found - {"patient/ImagingStudy.sr"}),
        f"granted {sorted(found)}",
    )


@case("not-widened", "The granted scope is never more than what was asked", 78, 95)
def _(system: System) -> None:
    asked = "launch/patient patient/ImagingStudy.r"
    found = system.grant(asked).scopes
    check(found <= set(asked.split()), f"granted {sorted(found)}")


@case("registered", "Nor more than the client is registered for", 18, 119)
def _(system: System) -> None:
    registered = system.target.client("public").scope.split()
    if not registered or "system/*.cruds" in registered:
        raise Skipped("the target file does not say what the client is registered for")
    answered = system.authorize("launch/patient patient/ImagingStudy.rs system/*.cruds")
    if "code" in answered.landing.parameters:
        check("system/*.cruds" not in system.granted_by(system.redeem(answered)).scopes, "system/*.cruds was granted")


@case("system-for-people", "No person grants system/ scopes that open anybody's data", 119, 142)
def _(system: System) -> None:
    answered = system.authorize("launch/patient patient/ImagingStudy.rs system/ImagingStudy.rs")
    if "code" not in answered.landing.parameters:
        return
    grant = system.granted_by(system.redeem(answered))
    refused(system.read(f"ImagingStudy?patient={system.target.patient('b')}", grant.token), 403)


@case("chosen", "A person can leave out single scopes, and the response says so", 78, 119)
def _(system: System) -> None:
    asked = "launch/patient patient/ImagingStudy.rs patient/Patient.rs"
    answered = system.authorize(asked, choose=lambda value: "Patient.rs" not in value)
    grant = system.granted_by(system.redeem(answered))
    if "patient/Patient.rs" in grant.scopes:
        raise Skipped("the consent page has no checkbox whose value names the scope")
    refused(system.read(f"Patient/{system.target.patient('a')}", grant.token))


@case("delegation", "user/ scopes of a patient open no other patient", 119, 140)
def _(system: System) -> None:
    answered = system.authorize("launch/patient user/ImagingStudy.rs user/Patient.rs")
    if "code" not in answered.landing.parameters:
        return
    token = system.granted_by(system.redeem(answered)).token
    refused(system.read(f"ImagingStudy?patient={system.target.patient('b')}", token), 403)
    refused(system.read(f"Patient/{system.target.patient('b')}", token), 403, 404)


@case("patient-of-another", "Nobody gets a patient in context whom they may not see", 119, 136)
def _(system: System) -> None:
    answered = system.authorize("launch/patient patient/ImagingStudy.rs", patient="b")
    if "code" in answered.landing.parameters:
        found = system.granted_by(system.redeem(answered)).body.get("patient")
        check(found != system.target.patient("b"), "the patient account got another patient")


@case("patient-forced", "A parameter of the request chooses no patient", 119, 136)
def _(system: System) -> None:
    other = system.target.patient("b")
    answered = system.authorize("launch/patient patient/ImagingStudy.rs", extra=(("patient", other), ("launch_patient", other)))
    if "code" in answered.landing.parameters:
        check(system.granted_by(system.redeem(answered)).body.get("patient") != other, "it did")


@case("constraint", "A constraint after the question mark holds for search and read", 370)
def _(system: System) -> None:
    study = system.target.study("a")
    scope = f"patient/ImagingStudy.rs?identifier=urn:dicom:uid|urn:oid:{study.uid}"
    token = system.token(f"launch/patient {scope}")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", token)
    check(answer.status_code == 200, f"status {answer.status_code}")
    found = [
        each["resource"]["identifier"] for each in answer.json().get("entry", ()) if each["resource"]["resourceType"] == _STUDY
    ]
    check(found, "the study that meets it was not found")
    check(
        all(any(study.uid in str(one.get("value")) for one in each) for each in found), "a study that does not meet it was told"
    )


@case("constraint-nothing", "What does not meet a constraint stays shut", 370)
def _(system: System) -> None:
    token = system.token("launch/patient patient/ImagingStudy.rs?modality=XX-KIT")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", token)
    check(answer.status_code in (200, 403), f"status {answer.status_code}")
    check(not answer.json().get("entry") if answer.status_code == 200 else True, "studies were told that do not meet it")
    refused(system.read(f"ImagingStudy/{_id(system)}", token), 403, 404)


@case("patient-read", "patient/ scopes open the one patient's resources only", 136)
def _(system: System) -> None:
    token = system.token("launch/patient patient/*.rs")
    refused(system.read(f"Patient/{system.target.patient('b')}", token), 403, 404)


def _batch(system: System, token: str, *urls: str) -> list[str]:
    """Statuses of the entries of a batch of reads."""
    body = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": each}} for each in urls]}
    answer = system.wire.post(system.fhir, token=token, json=body, headers={"Content-Type": "application/fhir+json"})
    if answer.status_code in (404, 405, 501):
        raise Skipped("the system has no batch")
    check(answer.status_code == 200, f"the batch was answered with {answer.status_code}: {answer.text[:200]}")
    return [str(each["response"]["status"])[:3] for each in answer.json()["entry"]]


@case("batch", "Requests in a batch are judged one by one", 130)
def _(system: System) -> None:
    token = system.token("launch/patient patient/*.rs")
    own, other = system.target.patient("a"), system.target.patient("b")
    found = _batch(system, token, f"Patient/{own}", f"Patient/{other}", f"ImagingStudy?patient={other}")
    check(found[0] == "200", f"the own patient is {found[0]}")
    check(found[1] in ("403", "404"), f"another's Patient is {found[1]}")
    check(found[2] == "403", f"another's studies are {found[2]}")


@case("batch-write", "A batch is no way around a missing scope", 130)
def _(system: System) -> None:
    token = system.token("launch/patient patient/ImagingStudy.rs")
    found = _batch(system, token, f"Patient/{system.target.patient('a')}")
    check(found == ["403"], f"Patient without its scope is {found}")


@case("put-creates", "An update that creates needs no more than the u of its scope", 123)
def _(system: System) -> None:
    token = system.token("launch/patient patient/Observation.u")
    patient, id_ = system.target.patient("a"), "smart-kit"
    answer = system.wire.ask(
        "PUT",
        f"{system.fhir}/Observation/{id_}",
        token=token,
        headers={"Content-Type": "application/fhir+json"},
        json={
            "resourceType": "Observation",
            "id": id_,
            "status": "final",
            "code": {"text": "kit"},
            "subject": {"reference": f"Patient/{patient}"},
        },
    )
    if answer.status_code in (404, 405, 501):
        raise Skipped("the system has no update as create")
    check(answer.status_code in (200, 201), f"status {answer.status_code}: {answer.text[:200]}")


@case("other-type-include", "_include and _revinclude bring nothing that no scope covers", 95)
def _(system: System) -> None:
    token = system.token("launch/patient patient/ImagingStudy.rs")
    patient = system.target.patient("a")
    answer = system.read(f"ImagingStudy?patient={patient}&_include=ImagingStudy:patient&_include=ImagingStudy:subject", token)
    if answer.status_code in (400, 403):
        return
    found = {each["resource"]["resourceType"] for each in answer.json().get("entry", ())}
    check("Patient" not in found, "the Patient came along")


@case("chain", "A chain reads nothing that no scope covers", 95)
def _(system: System) -> None:
    token = system.token("launch/patient patient/ImagingStudy.rs")
    patient = system.target.patient("a")
    totals = []
    for each in ("patient.gender=male", "patient.gender=female", "patient.gender=other", "patient.gender=unknown"):
        answer = system.read(f"ImagingStudy?patient={patient}&{each}", token)
        if answer.status_code == 200:
            totals.append(sum(one["resource"]["resourceType"] == _STUDY for one in answer.json().get("entry", ())))
    check(not any(totals), "a chain told of the Patient, which the token does not open")
