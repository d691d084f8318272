"""What scopes and tokens open of images (SMART Imaging Access, Specification: Token validation and access enforcement)."""

from collections.abc import Callable
from typing import Any, Final

from conformance.smart import jwts
from conformance.smart.imaging import SCOPE, bundle, denied, paths, retrieved, search, uids, usual_base
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, refused

_CHECKS: Final = "SMART Imaging Access, Token validation and access enforcement"
_CONTROL: Final = "SMART Imaging Access, Access control"
_RETRIEVAL: Final = "SMART Imaging Access, Retrieval authorization"
AREA = Area("imaging_scopes", _CHECKS)
case = AREA.case


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
            answer = search(system, token) if what == "search" else retrieved(system, token, study)
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
    check(retrieved(system, token, own[0]).status_code == 200, "the study itself is refused")
    for name, path, accept in paths(own[1]):
        denied(retrieved(system, token, own[1], path, accept=accept, at=usual_base(system)), what=name)


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
    grant = system.fresh("launch/patient launch/imagingstudy patient/ImagingStudy.rs", study=own[0].chosen_by)
    if "launch/imagingstudy" not in grant.scopes or not grant.body.get("fhirContext"):
        raise Skipped("launch/imagingstudy was not granted")
    answer = search(system, grant.token)
    if answer.status_code != 200 or own[1].uid in uids(dict(answer.json())):
        raise Skipped("the system takes the picked study as context, and not as a limit")
    denied(retrieved(system, grant.token, own[1], at=usual_base(system)), what="a study that was not picked")


def _worthless(id: str, title: str, make: Callable[[System], str], *numbers: int) -> None:
    """A case for each of FHIR and WADO-RS in which a token opens nothing."""

    @case(f"{id}-search", f"{title}: no search", *numbers)
    def _(system: System) -> None:
        refused(search(system, make(system)), 401)

    @case(f"{id}-retrieve", f"{title}: no image", *numbers)
    def _(system: System) -> None:
        answer = retrieved(system, make(system), system.target.study("a"), at=usual_base(system))
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


@case("no-patient-context", "A patient/ scope without a patient opens nothing", 164)
def _(system: System) -> None:
    token = system.target.tokens.get("no_patient")
    if not token:
        raise Skipped("the target file has no token no_patient")
    refused(search(system, token), 403)
    denied(retrieved(system, token, system.target.study("a"), at=usual_base(system)), what="study")
