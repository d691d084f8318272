"""Capability URLs (SMART Imaging Access, Specification: Issuing capability URLs, Retrieving images)."""

from typing import Final

from conformance.smart.imaging import SCOPE, address, denied, paths, retrieved
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

_CHECKS: Final = "SMART Imaging Access, Token validation and access enforcement"
_CONTROL: Final = "SMART Imaging Access, Access control"
_RETRIEVAL: Final = "SMART Imaging Access, Retrieval authorization"
AREA = Area("imaging_capability", _CHECKS)
case = AREA.case


@case(
    "bound",
    "An address with a capability opens nothing without the token, unless it says that it does",
    source="SMART Imaging Access, Issuing capability URLs",
)
def _(system: System) -> None:
    study = system.target.study("a")
    where = _capability(system)
    denied(retrieved(system, None, study, at=where), what="without a token")


@case("other-token", "Nor with another's token", source="SMART Imaging Access, Issuing capability URLs")
def _(system: System) -> None:
    where = _capability(system)
    other = system.token(SCOPE, user="patient_b", patient="b")
    denied(retrieved(system, other, system.target.study("a"), at=where), what="with another's token")


@case("own-study", "It opens its own study alone, whatever is appended", source="SMART Imaging Access, Retrieving images")
def _(system: System) -> None:
    where = _capability(system)
    other = system.target.study("b", seen_by="")
    for name, path, accept in paths(other):
        denied(retrieved(system, system.token(SCOPE), other, path, accept=accept, at=where), what=name)


@case("changed", "One that was changed opens nothing", source="SMART Imaging Access, Retrieving images")
def _(system: System) -> None:
    where = _capability(system)
    changed = where[:-1] + ("A" if where[-1] != "A" else "B")
    denied(retrieved(system, system.token(SCOPE), system.target.study("a"), at=changed), what="changed")


@case(
    "works",
    "With its token it opens the study in every form that the server has",
    source="SMART Imaging Access, Retrieving images",
)
def _(system: System) -> None:
    where = _capability(system)
    answer = retrieved(system, system.token(SCOPE), system.target.study("a"), at=where)
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("expired", "An expired one opens nothing", source="SMART Imaging Access, Lifetime and revocation")
def _(system: System) -> None:
    where = system.target.tokens.get("expired_capability")
    if not where:
        raise Skipped("the target file has no expired_capability")
    denied(retrieved(system, system.token(SCOPE), system.target.study("a"), at=where), what="expired")


@case(
    "ends-with-grant",
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
