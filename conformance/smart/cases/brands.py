"""User-access brands (SMART App Launch 2.2, User-access Brands and Endpoints)."""

from typing import Any

import httpx2

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

AREA = Area("brands")
case = AREA.case

_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def _answer(system: System) -> httpx2.Response:
    return system.wire.get(
        system.endpoint("user_access_brand_bundle"), headers={"Accept": "application/fhir+json, application/json"}
    )


def _bundle(system: System) -> dict[str, Any]:
    answer = _answer(system)
    check(answer.status_code == 200, f"status {answer.status_code}")
    found = dict(answer.json())
    check(found.get("resourceType") == "Bundle", f"it is a {found.get('resourceType')}")
    return found


def _resources(bundle: dict[str, Any], type_: str) -> list[dict[str, Any]]:
    return [each["resource"] for each in bundle.get("entry", ()) if each["resource"]["resourceType"] == type_]


@case("bundle", "A collection of Organizations and Endpoints, without authorization", 387, 427, 436)
def _(system: System) -> None:
    bundle = _bundle(system)
    check(bundle.get("type") == "collection", f"type {bundle.get('type')}")
    check(_resources(bundle, "Organization"), "there is no Organization")
    check(_resources(bundle, "Endpoint"), "there is no Endpoint")
    for each in _resources(bundle, "Organization"):
        check(each.get("name"), "an Organization has no name")


@case("timestamp", "Bundle.timestamp says when it changed", 398, 418)
def _(system: System) -> None:
    check(_bundle(system).get("timestamp"), "there is none")


@case("primary", "Every Endpoint is one that an Organization refers to", 396, 417)
def _(system: System) -> None:
    bundle = _bundle(system)
    named = {str(one.get("reference", "")) for each in _resources(bundle, "Organization") for one in each.get("endpoint", ())}
    for entry in bundle.get("entry", ()):
        resource = entry["resource"]
        if resource["resourceType"] == "Endpoint":
            own = {str(entry.get("fullUrl")), f"Endpoint/{resource.get('id')}"}
            check(own & named, f"{resource.get('address')} is of no brand")


@case("own-endpoint", "One Endpoint is this FHIR server", 407, 433)
def _(system: System) -> None:
    found = [str(each.get("address", "")).rstrip("/") for each in _resources(_bundle(system), "Endpoint")]
    check(system.clinical in found, f"the addresses are {found}")


@case(
    "identifier",
    "user_access_brand_identifier has a value and matches exactly one Organization",
    388,
    406,
    409,
    410,
    411,
    412,
    428,
    429,
    430,
    431,
    432,
)
def _(system: System) -> None:
    bundle = _bundle(system)
    wanted = system.configuration.get("user_access_brand_identifier")
    if wanted is None:
        check(len(_resources(bundle, "Organization")) <= 1, "several brands, and no user_access_brand_identifier")
        raise Skipped("there is one brand and no identifier")
    check(wanted.get("value"), "it has no value")
    check(wanted.get("system"), "it has no system")
    matching = [
        each
        for each in _resources(bundle, "Organization")
        if any(
            one.get("system") == wanted.get("system") and one.get("value") == wanted["value"]
            for one in each.get("identifier", ())
        )
    ]
    check(len(matching) == 1, f"{len(matching)} Organizations match it")


@case("identifiers", "Identifiers of brands have a system and a value", 395, 403, 421, 422)
def _(system: System) -> None:
    found = [one for each in _resources(_bundle(system), "Organization") for one in each.get("identifier", ())]
    check(found, "no brand has an identifier")
    check(all(each.get("system") and each.get("value") for each in found), "one lacks system or value")


@case("last-updated", "What is in it says when it changed", 399, 419)
def _(system: System) -> None:
    without = [
        each["resource"]["resourceType"]
        for each in _bundle(system).get("entry", ())
        if not each["resource"].get("meta", {}).get("lastUpdated")
    ]
    check(not without, f"meta.lastUpdated is missing in {without}")


@case("etag", "The answer has a weak ETag, and If-None-Match is understood", 401, 424)
def _(system: System) -> None:
    tag = _answer(system).headers.get("etag", "")
    check(tag.startswith('W/"'), f"ETag is {tag!r}")
    again = system.wire.get(system.endpoint("user_access_brand_bundle"), headers={"If-None-Match": tag})
    check(again.status_code == 304, f"status {again.status_code} with If-None-Match")


@case("absent-reasons", "What is absent is so for asked-declined or asked-unknown only", 405)
def _(system: System) -> None:
    def reasons(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [str(node.get("valueCode"))] if node.get("url") == _ABSENT else []
            return own + [one for each in node.values() for one in reasons(each)]
        return [one for each in node for one in reasons(each)] if isinstance(node, list) else []

    wrong = set(reasons(_bundle(system))) - {"asked-declined", "asked-unknown"}
    check(not wrong, f"{sorted(wrong)}")
