"""FHIR Consents as rules: what cannot be understood is held as a denial, and told."""

from typing import Any

import pytest

from profiles.fhir.date_range import date_range
from profiles.smart.consent import DEEPEST, MOST_RULES, Directive, Rule, read
from profiles.smart.consent_terms import FOREVER, Kind, Term

Json = dict[str, Any]
DENIAL = Rule(denies=True)


def _read(provision: Json | None = None, **content: Any) -> Directive:
    consent = {"resourceType": "Consent", "status": "active", **content}
    return read(consent if provision is None else {**consent, "provision": provision}, "p", "https://here.example/fhir")


def _kinds(directive: Directive) -> list[tuple[bool, set[Kind]]]:
    return [(rule.denies, {term.kind for part in rule.parts for term in part}) for rule in directive.rules]


def _actor(**reference: Any) -> Json:
    return {"actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": reference}]}


@pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"])
def test_only_an_active_consent_has_rules(status: str) -> None:
    assert _read({"type": "deny"}, status=status) == Directive()


def test_a_consent_of_nobody_here_or_about_treatment_has_none_and_says_so() -> None:
    nobody = read({"status": "active", "provision": {"type": "deny"}}, "")
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "treatment"}]}
    for found in (nobody, _read({"type": "deny"}, scope=scope)):
        assert (found.rules, len(found.warnings)) == ((), 1)


@pytest.mark.parametrize(("code", "denies"), [("OPTIN", False), ("OPTOUT", True)])
def test_the_policy_says_what_the_root_does_not(code: str, denies: bool) -> None:
    found = _read(
        {"provision": [{"type": "deny", **_actor(reference="Practitioner/1")}]}, policyRule={"coding": [{"code": code}]}
    )
    assert [rule.denies for rule in found.rules] == [denies, True]
    assert found.rules[1].parent == 0
    assert not found.warnings


@pytest.mark.parametrize(
    "consent",
    [
        {},
        {"provision": {}},
        {"policyRule": {"coding": [{"code": "hipaa-auth"}]}},
        {"modifierExtension": [{}], "provision": {"type": "permit"}},
    ],
)
def test_a_consent_that_does_not_say_what_it_means_denies_all(consent: Json) -> None:
    found = _read(**consent)
    assert found.rules == (DENIAL,)
    assert found.warnings


UNKNOWN: list[Json] = [
    _actor(reference="Group/g"), _actor(reference="CareTeam/c"), _actor(reference="#contained"), _actor(display="my doctor"),
    _actor(reference="https://elsewhere.example/fhir/Practitioner/1"),
    {"actor": [{"role": {"coding": [{"code": "CST"}]}, "reference": {"reference": "Organization/1"}}]},
    {"class": [{"system": "urn:ietf:bcp:13", "code": "application/dicom"}]}, {"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Nothing"}]},
    {"securityLabel": [{"code": "R"}]}, {"securityLabel": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "X"}]},
    {"data": [{"meaning": "instance", "reference": {"display": "the one of last week"}}]},
    {"data": [{"meaning": "instance", "reference": {"identifier": {"system": "urn:x", "value": "1"}}}]},
    {"data": [{"meaning": "unheard-of", "reference": {"reference": "Observation/1"}}]},
    {"action": [{"coding": [{"code": "dream"}]}]}, {"purpose": [{"system": "urn:x"}]}, {"code": [{"text": "in words"}]},
    {"dataPeriod": {"start": "once"}}, {"period": {"start": "once"}}, {"modifierExtension": [{"url": "urn:x"}]},
]  # fmt: skip


@pytest.mark.parametrize("unknown", UNKNOWN, ids=lambda each: str(each)[:60])
def test_what_is_not_understood_makes_denials_wider_and_permissions_void(unknown: Json) -> None:
    assert _read({"type": "deny", **unknown}).rules == (DENIAL,)
    permitted = _read({"type": "permit", **unknown})
    assert not any(not rule.denies and rule.parts == () for rule in permitted.rules)
    # As exceptions: a permission is none, a denial is of everything around it.
    inner = _read({"type": "deny", "provision": [{"type": "permit", **unknown}]})
    assert inner.rules == (DENIAL,)
    outer = _read({"type": "permit", "provision": [{"type": "deny", **unknown}]})
    assert outer.rules == (Rule(denies=False), Rule(denies=True, parent=0))
    assert all(each.warnings and each.warnings[0].path.startswith("Consent.provision") for each in (permitted, inner, outer))


def test_of_several_values_those_that_are_understood_permit_and_all_deny() -> None:
    actors = {"actor": _actor(reference="Practitioner/1")["actor"] + _actor(reference="Group/g")["actor"]}
    assert _read({"type": "permit", **actors}).rules == (Rule(False, ((Term(Kind.ACTOR, "Practitioner/1"),),)),)
    assert _read({"type": "deny", **actors}).rules == (DENIAL,)


@pytest.mark.parametrize(
    ("own", "oid"), [("v3-ActReason", "2.16.840.1.113883.5.8"), ("v3-ActCode", "2.16.840.1.113883.5.4"), ("v3-Confidentiality", "2.16.840.1.113883.5.25")]
)  # fmt: skip
def test_code_systems_of_hl7_v3_are_known_by_their_other_names(own: str, oid: str) -> None:
    names = (f"http://terminology.hl7.org/CodeSystem/{own}", f"http://hl7.org/fhir/v3/{own[3:]}", f"urn:oid:{oid}")
    for kind in ("deny", "permit"):
        for element in ("purpose", "securityLabel"):
            one, *others = (_read({"type": kind, element: [{"system": name, "code": "R"}]}) for name in names)
            assert one.rules
            assert others == [one, one], element


def test_references_below_our_base_are_ours() -> None:
    absolute = _actor(reference="https://here.example/fhir/Practitioner/1/_history/3")
    assert _read({"type": "deny", **absolute}).rules == (Rule(True, ((Term(Kind.ACTOR, "Practitioner/1"),),)),)


def test_a_permission_of_some_data_denies_all_other() -> None:
    """IHE PCF: first forbid everything, then permit what is named; who may see something of a patient may see who that is."""
    found = _read(
        {
            "type": "permit",
            **_actor(reference="Practitioner/1"),
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "ImagingStudy"}],
        }
    )
    assert _kinds(found) == [(True, {Kind.ACTOR}), (False, {Kind.ACTOR, Kind.TYPE}), (False, {Kind.ACTOR, Kind.TYPE})]
    assert [rule.parent for rule in found.rules] == [None, 0, 0]
    assert {part[0].value for rule in found.rules[1:] for part in rule.parts if part[0].kind is Kind.TYPE} == {
        "Patient",
        "ImagingStudy",
    }


def test_a_provision_about_writing_alone_does_nothing_here() -> None:
    found = _read({"type": "permit", "provision": [{"type": "deny", "action": [{"coding": [{"code": "collect"}]}]}]})
    assert found.rules == (Rule(denies=False),)
    assert found.warnings[0].path == "Consent.provision.provision[0].action"
    for code in ("access", "use", "disclose"):
        assert _read({"type": "deny", "action": [{"coding": [{"code": code}]}]}).rules == (DENIAL,)


def test_periods_of_nested_provisions_are_within_those_around_them() -> None:
    found = _read(
        {"type": "deny", "period": {"start": "2026-01-01"}, "provision": [{"type": "permit", "period": {"end": "2026-06-30"}}]}
    )
    first, last = date_range("2026-01-01")[0], date_range("2026-06-30")[1]
    assert [(rule.begins, rule.ends) for rule in found.rules] == [(first, FOREVER), (first, last)]
    never = _read(
        {"type": "deny", "period": {"start": "2026-01-01"}, "provision": [{"type": "permit", "period": {"end": "2025-01-01"}}]}
    )
    assert len(never.rules) == 1


def test_what_is_too_much_is_denied_altogether() -> None:
    many = {"type": "permit", "provision": [{"type": "permit"}] * MOST_RULES}
    deep: Json = {"type": "permit"}
    for _ in range(DEEPEST + 1):
        deep = {"type": "permit", "provision": [deep]}
    for each in (many, deep):
        found = _read(each)
        assert found.rules == (DENIAL,)
        assert found.warnings[-1].path == "Consent.provision"
