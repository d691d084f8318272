"""Launch context in token responses (SMART App Launch 2.2, Scopes and Launch Context)."""

from collections.abc import Mapping
from typing import Any, Final

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import Grant, System, refused

AREA = Area("context")
case = AREA.case

_KINDS: Final = {
    "patient": str,
    "encounter": str,
    "fhirContext": list,
    "need_patient_banner": bool,
    "intent": str,
    "smart_style_url": str,
    "tenant": str,
}


def _launched(system: System, scope: str = "launch patient/ImagingStudy.rs", **body: Any) -> Grant:
    """A grant of an EHR launch."""
    system.able("launch-ehr")
    return system.fresh(scope, changed={"launch": system.launch(**body)})


def _well_formed(body: Mapping[str, Any]) -> None:
    """Every context member is of its type, and fhirContext has what it must."""
    for name, kind in _KINDS.items():
        check(name not in body or isinstance(body[name], kind), f"{name} is {type(body.get(name)).__name__}")
    for each in body.get("fhirContext", ()):
        check(isinstance(each, dict) and {"reference", "canonical", "identifier"} & set(each), f"fhirContext has {each}")
        check(each.get("role") != "", "a role is empty")
        role = str(each.get("role", "launch"))
        check(role in ("launch", "related") or ":" in role, f"role {role} is no absolute URI")
        type_ = str(each.get("reference", "")).partition("/")[0]
        check(type_ not in ("Patient", "Encounter") or role != "launch", f"{type_} is in fhirContext with role launch")
        check("reference" not in each or "://" not in str(each["reference"]), "a reference is not relative")
        check(not {"canonical", "identifier"} & set(each) or each.get("type"), "canonical or identifier without type")


@case("standalone-patient", "launch/patient brings the patient", 149, 164, 167, 168, 169, 170, 363)
def _(system: System) -> None:
    system.able("context-standalone-patient")
    body = system.grant("launch/patient patient/ImagingStudy.rs").body
    check(body.get("patient") == system.target.patient("a"), f"patient is {body.get('patient')}")
    _well_formed(body)


@case("patient-scope-needs-one", "A patient/ scope brings a patient, asked for or not", 164)
def _(system: System) -> None:
    grant = system.fresh("patient/ImagingStudy.rs")
    if any(each.startswith("patient/") for each in grant.scopes):
        check(grant.body.get("patient"), "patient/ was granted without a patient")


@case("no-scope-no-context", "Who asks for user/ scopes alone is not told of a patient whom nobody chose", 149)
def _(system: System) -> None:
    body = system.grant("user/ImagingStudy.rs", user="practitioner").body
    check("patient" not in body or body["patient"] == "", f"patient {body.get('patient')} was told")


@case("standalone-study", "launch/imagingstudy brings the study that was chosen, in fhirContext", 167, 172, 177, 178)
def _(system: System) -> None:
    study = system.target.study("a")
    grant = system.fresh("launch/patient launch/imagingstudy patient/ImagingStudy.rs", study=study.chosen_by)
    if "launch/imagingstudy" not in grant.scopes:
        raise Skipped("launch/imagingstudy was not granted")
    _well_formed(grant.body)
    found = [str(each.get("reference", "")) for each in grant.body.get("fhirContext", ())]
    check(any(each.startswith("ImagingStudy/") for each in found), f"fhirContext has {found}")
    answer = system.read(next(each for each in found if each.startswith("ImagingStudy/")), grant.token)
    check(answer.status_code == 200, f"the study of the context answered {answer.status_code}")


@case("ehr-patient", "A launch from an EHR brings its patient", 168, 170, 361)
def _(system: System) -> None:
    system.able("context-ehr-patient")
    body = _launched(system).body
    check(body.get("patient") == system.target.patient(system.target.launcher.patient), f"patient is {body.get('patient')}")
    _well_formed(body)


@case("ehr-patient-bound", "The token of such a launch opens that patient alone", 136, 361)
def _(system: System) -> None:
    token = _launched(system).token
    other = next((each for name, each in system.target.patients.items() if name != system.target.launcher.patient), None)
    if other is None:
        raise Skipped("the target file has one patient only")
    refused(system.read(f"ImagingStudy?patient={other}", token), 403)


@case("ehr-encounter", "A launch from an EHR brings its encounter", 171, 362)
def _(system: System) -> None:
    system.able("context-ehr-encounter")
    if not system.target.launcher.encounter:
        raise Skipped("the launcher names no encounter")
    body = _launched(system, "launch launch/encounter patient/ImagingStudy.rs").body
    check(body.get("encounter") == system.target.launcher.encounter, f"encounter is {body.get('encounter')}")


@case("standalone-encounter", "launch/encounter brings an encounter", 364)
def _(system: System) -> None:
    system.able("context-standalone-encounter")
    body = system.fresh("launch/patient launch/encounter patient/ImagingStudy.rs").body
    check(isinstance(body.get("encounter"), str), "no encounter")


@case("banner", "need_patient_banner is a boolean", 173, 359)
def _(system: System) -> None:
    system.able("context-banner")
    found = _launched(system).body.get("need_patient_banner")
    check(isinstance(found, bool), f"need_patient_banner is {found!r}")


@case("style", "smart_style_url is the URL of a JSON object", 175, 360)
def _(system: System) -> None:
    system.able("context-style")
    url = _launched(system).body.get("smart_style_url")
    check(isinstance(url, str) and "://" in url, f"smart_style_url is {url!r}")
    answer = system.wire.get(str(url))
    check(answer.status_code == 200 and isinstance(answer.json(), dict), f"it answered {answer.status_code}")


@case("unsolicited", "What an EHR puts into a launch comes out at its end", 168, 172, 174, 176, 177, 178, 185, 188, 190)
def _(system: System) -> None:
    wanted = system.target.launcher.expects
    if not wanted:
        raise Skipped("the launcher of the target file expects nothing")
    found = _launched(system).body
    _well_formed(found)
    for name, value in wanted.items():
        if name != "fhirContext":
            check(found.get(name) == value, f"{name} is {found.get(name)!r}")
    told = [each.get("reference") for each in found.get("fhirContext", ())]
    check({each["reference"] for each in wanted.get("fhirContext", ())} <= {*told}, f"fhirContext has {told}")


@case("unknown-role", "A role that nobody knows does not stop a launch", 159, 160)
def _(system: System) -> None:
    grant = system.fresh("launch/patient launch/imagingstudy?role=https://example.org/kit patient/ImagingStudy.rs")
    check(grant.body.get("patient"), "no patient came")
