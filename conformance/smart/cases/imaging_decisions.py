"""Who gets which images (SMART Imaging Access, Specification: Token validation and access enforcement, Access control)."""

from collections.abc import Callable
from typing import Any, Final

from conformance.smart import jwts
from conformance.smart.imaging import (
    METADATA,
    SCOPE,
    address,
    base,
    bundle,
    denied,
    paths,
    resources,
    retrieved,
    search,
    uids,
)
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

_CHECKS: Final = "SMART Imaging Access, Token validation and access enforcement"
AREA = Area("imaging_decisions", _CHECKS)
case = AREA.case
_CONTROL: Final = "SMART Imaging Access, Access control"
_RETRIEVAL: Final = "SMART Imaging Access, Retrieval authorization"
_PATHS: Final = (
    "study", "study metadata", "study rendered", "study thumbnail", "series", "series metadata", "series rendered", "instance",
    "instance metadata", "instance rendered", "frames", "bulk data",
)  # fmt: skip


def _path(system: System, study: Any, name: str) -> tuple[str, str]:
    """Path and Accept of one form of retrieval."""
    for each, path, accept in paths(study):
        if each == name:
            return path, accept
    raise Skipped(f"the target file does not name what {name} needs of study {study.name}")


def _base(system: System) -> str:
    """The WADO-RS base as patient a is told it."""
    return address(system, system.token(SCOPE), system.target.study("a"))


# --- searches


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
    form = {"patient": system.target.patient("b")}
    answer = system.wire.post(f"{system.fhir}/ImagingStudy/_search", token=system.token(SCOPE), form=form)
    refused(answer, 403, 404, 405)


@case("two-patients", "A list of patients with another among them tells nothing of the other", 136, source=_CONTROL)
def _(system: System) -> None:
    answer = search(system, system.token(SCOPE), f"{system.target.patient('a')},{system.target.patient('b')}")
    if answer.status_code == 200:
        _only_a(system, dict(answer.json()))
    else:
        refused(answer, 400, 403)


@case("patient-twice", "Nor does patient= twice", 136, source=_CONTROL)
def _(system: System) -> None:
    pairs = [("patient", system.target.patient("a")), ("patient", system.target.patient("b"))]
    answer = system.wire.get(f"{system.fhir}/ImagingStudy", token=system.token(SCOPE), params=pairs)
    if answer.status_code == 200:
        _only_a(system, dict(answer.json()))
    else:
        refused(answer, 400, 403)


@case("subject", "Nor does subject= in place of patient=", 136, source=_CONTROL)
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?subject=Patient/{system.target.patient('b')}", system.token(SCOPE))
    if answer.status_code == 200:
        check(not resources(dict(answer.json())), "another patient's studies were told")
    else:
        refused(answer, 400, 403)


@case("absolute-patient", "Nor does patient= with an absolute URL", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(search(system, system.token(SCOPE), f"{system.fhir}/Patient/{system.target.patient('b')}"), 400, 403)


@case("compartment", "Nor does the compartment of another patient", 136, source=_CONTROL)
def _(system: System) -> None:
    refused(system.read(f"Patient/{system.target.patient('b')}/ImagingStudy", system.token(SCOPE)), 400, 403, 404, 405)


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
            refused(answer, 403, 404)


def _only_a(system: System, found: dict[str, Any]) -> None:
    for each in resources(found):
        check(each["subject"]["reference"].endswith(system.target.patient("a")), "another patient's study was told")


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
        f"ImagingStudy?_has:Observation:subject:status=final&patient={system.target.patient('b')}", system.token(SCOPE)
    )
    refused(answer, 400, 403)


# --- retrieval, form by form


def _wrong_patient(name: str) -> None:
    @case(f"wado-wrong-patient-{name.replace(' ', '-')}", f"Another patient's {name} is refused", 136, source=_RETRIEVAL)
    def _(system: System) -> None:
        study = system.target.study("b", seen_by="")
        path, accept = _path(system, study, name)
        denied(retrieved(system, system.token(SCOPE), study, path, accept=accept, at=_base(system)), what=name)


def _without_scope(name: str) -> None:
    @case(
        f"wado-other-scope-{name.replace(' ', '-')}", f"{name} is refused without a scope for ImagingStudy", 95, source=_RETRIEVAL
    )
    def _(system: System) -> None:
        study = system.target.study("a")
        path, accept = _path(system, study, name)
        token = system.token("launch/patient patient/Patient.rs")
        denied(retrieved(system, token, study, path, accept=accept, at=_base(system)), what=name)


for _name in _PATHS:
    _wrong_patient(_name)
for _name in ("study", "study metadata", "series", "instance", "frames", "instance rendered"):
    _without_scope(_name)


@case("wado-mixed", "A series of another patient is not to be had below the own study", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    own, other = system.target.study("a"), system.target.study("b", seen_by="")
    if not other.series:
        raise Skipped("the target file names no series of patient b")
    for path in (f"/series/{other.series[0]}", f"/series/{other.series[0]}/metadata", f"/../{other.uid}", f"/%2e%2e/{other.uid}"):
        denied(retrieved(system, system.token(SCOPE), own, path, at=_base(system)), what=path)


@case("wado-several", "A list of studies in one URL opens none of others", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    own, other = system.target.study("a"), system.target.study("b", seen_by="")
    for each in (f"{own.uid},{other.uid}", f"{own.uid}\\{other.uid}", f"{own.uid}%5C{other.uid}", "*"):
        answer = system.wire.get(
            f"{_base(system)}/studies/{each}/metadata", token=system.token(SCOPE), headers={"Accept": METADATA}
        )
        check(answer.status_code >= 400, f"studies/{each}: status {answer.status_code}")


@case("qido", "A DICOMweb search tells of the own patient alone", 136, source=_RETRIEVAL)
def _(system: System) -> None:
    other = system.target.study("b", seen_by="")
    for query in ("", f"?StudyInstanceUID={other.uid}", "?PatientName=*", "?limit=1000"):
        answer = system.wire.get(f"{_base(system)}/studies{query}", token=system.token(SCOPE), headers={"Accept": METADATA})
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


# --- scopes


def _scope(scope: str, searches: bool | None, retrieves: bool | None, *numbers: int) -> None:
    """What a scope opens of images: searching, retrieving. None: not said."""
    for what, opened in (("search", searches), ("retrieve", retrieves)):
        if opened is None:
            continue

        @case(
            f"scope-{scope.replace(' ', '+')}-{what}", f"{scope} {'lets' if opened else 'does not let'} an app {what}", *numbers
        )
        def _(system: System, what: str = what, opened: bool = opened) -> None:
            token = system.token(f"launch/patient {scope}")
            study = system.target.study("a")
            answer = search(system, token) if what == "search" else retrieved(system, token, study, at=_base(system))
            if opened:
                check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")
            else:
                refused(answer, 403)


_scope("patient/ImagingStudy.rs", True, True, 367, 370)
_scope("patient/ImagingStudy.read", True, True, 369)
_scope("patient/*.rs", True, True, 144)
_scope("patient/*.read", True, True, 144, 369)
_scope("patient/*.cruds", True, True, 144)
_scope("patient/ImagingStudy.s", True, False, 370)
_scope("patient/ImagingStudy.r", False, None, 370)
_scope("patient/ImagingStudy.write", False, False, 369)
_scope("patient/Observation.rs", False, False, 95)
_scope("patient/Endpoint.rs", False, False, 95)
_scope("patient/DocumentReference.rs patient/Patient.rs", False, False, 95)


@case("scope-constraint", "A scope for one study opens that one alone", 370)
def _(system: System) -> None:
    own = [each for each in system.target.studies if each.patient == "a" and not each.withheld_from and not each.pending]
    if len(own) < 2:
        raise Skipped("the target file has one study of patient a only")
    token = system.token(f"launch/patient patient/ImagingStudy.rs?identifier=urn:dicom:uid|urn:oid:{own[0].uid}")
    check(uids(bundle(search(system, token))) == [own[0].uid], "the search told of others")
    check(retrieved(system, token, own[0], at=_base(system)).status_code == 200, "the study itself is refused")
    for name, path, accept in paths(own[1]):
        denied(retrieved(system, token, own[1], path, accept=accept, at=_base(system)), what=name)


@case("two-grants", "Two grants do not become one: the token decides, and nothing else")
def _(system: System) -> None:
    narrow = system.token("launch/patient patient/Patient.rs")
    system.token("launch/patient patient/*.rs")
    refused(search(system, narrow), 403)


@case("picked-study", "A token for one picked study opens no other", source="SMART App Launch 2.2, fhirContext example")
def _(system: System) -> None:
    own = [each for each in system.target.studies if each.patient == "a" and not each.withheld_from and not each.pending]
    if len(own) < 2:
        raise Skipped("the target file has one study of patient a only")
    grant = system.fresh("launch/patient launch/imagingstudy patient/ImagingStudy.rs", study=own[0].uid)
    if "launch/imagingstudy" not in grant.scopes or not grant.body.get("fhirContext"):
        raise Skipped("launch/imagingstudy was not granted")
    answer = search(system, grant.token)
    if answer.status_code == 200 and own[1].uid in uids(dict(answer.json())):
        raise Skipped("the system takes the picked study as context, and not as a limit")
    denied(retrieved(system, grant.token, own[1], at=_base(system)), what="a study that was not picked")


# --- tokens


def _worthless(id: str, title: str, make: Callable[[System], str], *numbers: int) -> None:
    """A case for each of FHIR and WADO-RS in which a token opens nothing."""

    @case(f"{id}-search", f"{title}: no search", *numbers)
    def _(system: System) -> None:
        refused(search(system, make(system)), 401)

    @case(f"{id}-retrieve", f"{title}: no image", *numbers)
    def _(system: System) -> None:
        answer = retrieved(system, make(system), system.target.study("a"), at=_base(system))
        check(answer.status_code == 401, f"status {answer.status_code}")


def _given(name: str) -> Callable[[System], str]:
    def make(system: System) -> str:
        if name not in system.target.tokens:
            raise Skipped(f"the target file has no token {name}")
        return system.target.tokens[name]

    return make


def _revoked(system: System) -> str:
    url = system.endpoint("revocation_endpoint")
    grant = system.fresh(SCOPE)
    system.authenticated(url, {"token": grant.token}, system.target.client("public"))
    return grant.token


def _claims(system: System) -> tuple[dict[str, Any], dict[str, Any]]:
    found = jwts.parts(system.token(SCOPE))
    if found is None:
        raise Skipped("access tokens are no JWTs")
    return found


def _foreign(system: System) -> str:
    header, claims = _claims(system)
    alg = str(header["alg"])
    issuer = "https://other.invalid"
    return jwts.signed({**header, "kid": "other"}, {**claims, "iss": issuer}, jwts.new_key("other", alg))


_worthless("expired", "An expired token", _given("expired"), 77)
_worthless("revoked", "A revoked token", _revoked, 94)
_worthless("foreign", "A token of another authorization server", _foreign, 94)
_worthless("other-audience", "A token for another resource server", _given("other_audience"), 96)
_worthless("unsigned", "A token with alg none", lambda system: jwts.unsigned(_claims(system)[1], "at+jwt"), 94)
_worthless("changed", "A token that was changed", lambda system: jwts.tampered(system.token(SCOPE)), 94)


# --- no context, and clients by themselves


@case("no-patient-context", "A patient/ scope without a patient opens nothing", 164)
def _(system: System) -> None:
    token = system.target.tokens.get("no_patient")
    if not token:
        raise Skipped("the target file has no token no_patient")
    refused(search(system, token), 403)
    denied(retrieved(system, token, system.target.study("a"), at=_base(system)), what="study")


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
    answer = retrieved(system, _backend(system), study, at=_base(system))
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
        denied(retrieved(system, _backend(system), study, path, accept=accept, at=_base(system)), what=name)


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
    denied(retrieved(system, _backend(system), study, at=_base(system)), what="study")


@case("backend-scope", "Its scope for studies opens nothing else", 266, source="SMART Imaging Access, Backend Services")
def _(system: System) -> None:
    refused(system.read(f"Patient/{system.target.patient('a')}", _backend(system)), 403)
    refused(system.read(f"DiagnosticReport?patient={system.target.patient('a')}", _backend(system)), 403)


# --- withheld studies and series


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


# --- capability URLs


@case(
    "capability-bound",
    "An address with a capability opens nothing without the token, unless it says that it does",
    source="SMART Imaging Access, Issuing capability URLs",
)
def _(system: System) -> None:
    study = system.target.study("a")
    where = _capability(system)
    denied(retrieved(system, None, study, at=where), what="without a token")


@case("capability-other-token", "Nor with another's token", source="SMART Imaging Access, Issuing capability URLs")
def _(system: System) -> None:
    where = _capability(system)
    other = system.token(SCOPE, user="patient_b", patient="b")
    denied(retrieved(system, other, system.target.study("a"), at=where), what="with another's token")


@case(
    "capability-own-study", "It opens its own study alone, whatever is appended", source="SMART Imaging Access, Retrieving images"
)
def _(system: System) -> None:
    where = _capability(system)
    other = system.target.study("b", seen_by="")
    for name, path, accept in paths(other):
        denied(retrieved(system, system.token(SCOPE), other, path, accept=accept, at=where), what=name)


@case("capability-changed", "One that was changed opens nothing", source="SMART Imaging Access, Retrieving images")
def _(system: System) -> None:
    where = _capability(system)
    changed = where[:-1] + ("A" if where[-1] != "A" else "B")
    denied(retrieved(system, system.token(SCOPE), system.target.study("a"), at=changed), what="changed")


@case(
    "capability-works",
    "With its token it opens the study in every form that the server has",
    source="SMART Imaging Access, Retrieving images",
)
def _(system: System) -> None:
    where = _capability(system)
    answer = retrieved(system, system.token(SCOPE), system.target.study("a"), at=where)
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("capability-expired", "An expired one opens nothing", source="SMART Imaging Access, Lifetime and revocation")
def _(system: System) -> None:
    where = system.target.tokens.get("expired_capability")
    if not where:
        raise Skipped("the target file has no expired_capability")
    denied(retrieved(system, system.token(SCOPE), system.target.study("a"), at=where), what="expired")


@case(
    "capability-ends-with-grant",
    "It ends with the grant that it was made for",
    source="SMART Imaging Access, Lifetime and revocation",
)
def _(system: System) -> None:
    _capability(system)
    grant = system.fresh(SCOPE)
    study = system.target.study("a")
    where = address(system, grant.token, study)
    system.authenticated(system.endpoint("revocation_endpoint"), {"token": grant.token}, system.target.client("public"))
    denied(retrieved(system, grant.token, study, at=where), what="with the revoked token")
    denied(retrieved(system, system.token(SCOPE), study, at=where), what="with another grant's token")


def _capability(system: System) -> str:
    """The address of patient a's study, where it is a capability URL: not the base that the target file names."""
    where = address(system, system.token(SCOPE), system.target.study("a"))
    if not system.target.dicomweb or where == system.target.dicomweb.rstrip("/"):
        raise Skipped("addresses are no capability URLs")
    return where
