"""What searches mean: each type of parameter, modifier, prefix and form, by the rules and examples of FHIR R4 section 3.1.1.4."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.imageshare import publish_all
from peers.shows import shows

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
GENDER = "http://hl7.org/fhir/administrative-gender"
MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
Rows = dict[str, set[str]]


def observation(id_: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
        **more,
    }


def weight(id_: str, value: float, unit: str = "kg", **more: Any) -> dict[str, Any]:
    return observation(id_, valueQuantity={"value": value, "system": UCUM, "code": unit, "unit": unit}, **more)


def procedure(id_: str, performed: str) -> dict[str, Any]:
    return {
        "resourceType": "Procedure", "id": id_, "status": "completed", "subject": {"reference": "Patient/eve"}, "performedDateTime": performed,
    }  # fmt: skip


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "clinic", "name": "Clinic"},
    {"resourceType": "Organization", "id": "ward", "name": "Ward", "partOf": {"reference": "Organization/clinic"}},
    {"resourceType": "Patient", "id": "eve", "gender": "female", "active": True, "name": [{"family": "Müller-Évans", "given": ["Eve"]}],
     "identifier": [{"type": MR, "system": "urn:oid:1.2.3", "value": "4711"}], "managingOrganization": {"reference": "Organization/ward"},
     "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">met an aardvark</div>'}},
    {"resourceType": "Patient", "id": "adam", "gender": "male", "name": [{"family": "Muller"}], "identifier": [{"value": "4711"}]},
    {"resourceType": "Patient", "id": "nemo"},
    observation("mg", valueQuantity={"value": 5.4, "system": UCUM, "code": "mg", "unit": "mg"}, subject={"reference": "Patient/eve"}),
    weight("kg70", 70.5, subject={"reference": "Patient/adam"}, effectiveDateTime="2013-01-14"),
    weight("g70500", 70500, "g", subject={"reference": "Patient/eve"}),
    observation("pressure", component=[
        {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": {"value": 107, "system": UCUM, "code": "mm[Hg]"}},
        {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": {"value": 60, "system": UCUM, "code": "mm[Hg]"}},
    ], code={"coding": [{"system": LOINC, "code": "85354-9", "display": "Blood pressure"}], "text": "Blood pressure panel"},
    subject={"identifier": {"system": "urn:oid:9.9", "value": "logical"}}),
    procedure("day", "2013-01-14"),
    procedure("minute", "2013-01-14T10:00:00Z"),
    procedure("month", "2013-01"),
    procedure("later", "2013-01-15T00:00:00Z"),
    {"resourceType": "RiskAssessment", "id": "risk100", "status": "final", "subject": {"reference": "Patient/eve"}, "prediction": [{"probabilityDecimal": 0.8}]},
    {"resourceType": "RiskAssessment", "id": "risk5", "status": "final", "subject": {"reference": "Patient/adam"}, "prediction": [{"probabilityDecimal": 0.05}]},
    {"resourceType": "ValueSet", "id": "sexes", "url": "http://acme.org/fhir/ValueSet/sexes", "status": "active",
     "compose": {"include": [{"system": GENDER, "concept": [{"code": "female"}]}]}},
    {"resourceType": "ValueSet", "id": "deeper", "url": "http://acme.org/fhir/ValueSet/sexes/deeper", "status": "draft"},
    {"resourceType": "List", "id": "mine", "status": "current", "mode": "working", "entry": [{"item": {"reference": "Patient/nemo"}}]},
    {"resourceType": "Condition", "id": "broken", "subject": {"reference": "Patient/eve"}, "encounter": {"reference": "Encounter/visit"},
     "code": {"coding": [{"system": "http://snomed.info/sct", "code": "125605004", "display": "Fracture of bone"}]}},
    {"resourceType": "Encounter", "id": "visit", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/eve"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("semantics") / "data", module_database_url) as site:
        site.put(*RESOURCES)
        yield site


def holds(site: FhirSite, type_: str, rows: Rows) -> None:
    """Each query finds these ids."""
    told = {}
    for query in rows:
        name, _, value = query.partition("=")
        found = site.get(f"{type_}?{name}={quote(value)}&_count=100")
        told[query] = (
            {each["resource"]["id"] for each in found.json().get("entry", ())} if found.status_code == 200 else found.text
        )
    assert told == rows


@shows("parameter", "string")
@shows("modifier", "exact", "contains")
def test_strings(site: FhirSite) -> None:
    holds(site, "Patient", {
        "family=mül": {"eve", "adam"}, "family=MULLER": {"eve", "adam"}, "family=evans": {"eve"} & set(), "family:contains=evans": {"eve"},
        "family:exact=Muller": {"adam"}, "family:exact=muller": set(), "family:exact=Müller-Évans": {"eve"}, "name=eve": {"eve"},
        "given=eve,zoe": {"eve"},
    })  # fmt: skip


@shows("parameter", "token")
@shows("modifier", "not", "of-type")
def test_tokens(site: FhirSite) -> None:
    holds(site, "Patient", {
        "identifier=4711": {"eve", "adam"}, "identifier=urn:oid:1.2.3|4711": {"eve"}, "identifier=|4711": {"adam"}, "identifier=urn:oid:1.2.3|": {"eve"},
        "gender=male,female": {"eve", "adam"}, f"gender={GENDER}|female": {"eve"}, "gender:not=male": {"eve", "nemo"}, "active=true": {"eve"},
        "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|4711": {"eve"}, "gender=Female": set(),
    })  # fmt: skip


@shows("modifier", "text")
def test_text_of_a_token(site: FhirSite) -> None:
    holds(site, "Condition", {"code:text=fracture": {"broken"}, "code:text=elbow": set()})
    holds(site, "Observation", {"code:text=blood pressure": {"pressure"}})


@shows("modifier", "in", "not-in")
def test_codes_of_a_value_set(site: FhirSite) -> None:
    holds(site, "Patient", {
        "gender:in=http://acme.org/fhir/ValueSet/sexes": {"eve"}, "gender:not-in=http://acme.org/fhir/ValueSet/sexes": {"adam", "nemo"},
    })  # fmt: skip


@shows("modifier", "above", "below")
@shows("parameter", "uri")
def test_uris(site: FhirSite) -> None:
    holds(site, "ValueSet", {
        "url=http://acme.org/fhir/ValueSet/sexes": {"sexes"}, "url=http://acme.org/fhir/valueset/sexes": set(),
        "url:below=http://acme.org/fhir/ValueSet/sexes": {"sexes", "deeper"}, "url:above=http://acme.org/fhir/ValueSet/sexes/deeper": {"sexes", "deeper"},
        "url:below=http://acme.org": {"sexes", "deeper"},
    })  # fmt: skip


@shows("modifier", "missing")
def test_missing(site: FhirSite) -> None:
    holds(
        site,
        "Patient",
        {"gender:missing=true": {"nemo"}, "gender:missing=false": {"eve", "adam"}, "organization:missing=true": {"adam", "nemo"}},
    )
    holds(site, "Procedure", {"date:missing=true": set()})


@shows("parameter", "date")
@shows("prefix", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
def test_dates(site: FhirSite) -> None:
    """The ranges of section 3.1.1.4.7: the day's is [14th 00:00, 15th 00:00), the month's all of January."""
    holds(site, "Procedure", {
        "date=2013-01-14": {"day", "minute"}, "date=eq2013-01": {"day", "minute", "month", "later"}, "date=2013-01-14T10:00Z": {"minute"},
        "date=ne2013-01-14": {"month", "later"}, "date=lt2013-01-14T10:00Z": {"day", "month"}, "date=gt2013-01-14": {"month", "later"},
        "date=ge2013-01-15": {"later", "month"}, "date=le2013-01-14": {"day", "minute", "month"}, "date=sa2013-01-14": {"later"},
        "date=eb2013-01-15": {"day", "minute"}, "date=ap2013-01-14": {"day", "minute", "month", "later"}, "date=2013-01-14T00:00:00Z,2013-01-15": {"later"},
    })  # fmt: skip


@shows("parameter", "number")
def test_numbers(site: FhirSite) -> None:
    holds(site, "RiskAssessment", {
        "probability=0.8": {"risk100"}, "probability=8e-1": {"risk100"}, "probability=gt0.8": set(), "probability=ge0.8": {"risk100"},
        "probability=lt0.1": {"risk5"}, "probability=ne0.8": {"risk5"}, "probability=0.80": {"risk100"}, "probability=1": {"risk100"},
    })  # fmt: skip


@shows("parameter", "quantity")
def test_quantities(site: FhirSite) -> None:
    holds(site, "Observation", {
        f"value-quantity=5.4|{UCUM}|mg": {"mg"}, "value-quantity=5.4||mg": {"mg"}, "value-quantity=5.4": {"mg"}, f"value-quantity=5.40e-3|{UCUM}|g": {"mg"},
        f"value-quantity=70.5|{UCUM}|kg": {"kg70", "g70500"}, f"value-quantity=gt70|{UCUM}|kg": {"kg70", "g70500"}, f"value-quantity=lt70|{UCUM}|kg": {"mg"},
        "value-quantity=5.4|http://other.org|mg": set(),
    })  # fmt: skip


@shows("parameter", "reference")
@shows("modifier", "[type]", "identifier")
def test_references(site: FhirSite) -> None:
    holds(site, "Observation", {
        "subject=Patient/eve": {"mg", "g70500"}, "subject=eve": {"mg", "g70500"}, f"subject={site.base}/Patient/eve": {"mg", "g70500"},
        "subject:Patient=eve": {"mg", "g70500"}, "patient=adam": {"kg70"}, "subject:identifier=urn:oid:9.9|logical": {"pressure"}, "subject=Group/eve": set(),
    })  # fmt: skip


@shows("parameter", "composite")
def test_composites(site: FhirSite) -> None:
    holds(site, "Observation", {
        f"component-code-value-quantity={LOINC}|8480-6$gt100": {"pressure"}, f"component-code-value-quantity={LOINC}|8462-4$gt100": set(),
        f"component-code-value-quantity={LOINC}|8462-4$60||mm[Hg]": {"pressure"}, f"code-value-quantity={LOINC}|8480-6$lt10||mg": {"mg"},
    })  # fmt: skip


@shows("search", "chain")
def test_chains(site: FhirSite) -> None:
    holds(site, "Observation", {
        "subject:Patient.family=muller": {"mg", "g70500", "kg70"}, "patient.gender=male": {"kg70"}, "patient.organization.name=ward": {"mg", "g70500"},
        "patient.organization.partof.name=clinic": {"mg", "g70500"}, "patient.organization.partof.name=ward": set(), "subject.family=muller": {"mg", "g70500", "kg70"},
    })  # fmt: skip


@shows("search", "_has")
def test_reverse_chains(site: FhirSite) -> None:
    holds(site, "Patient", {
        "_has:Observation:patient:date=2013-01-14": {"adam"}, "_has:RiskAssessment:patient:probability=gt0.5": {"eve"},
        "_has:Condition:patient:encounter.status=finished": {"eve"}, "_has:Condition:patient:encounter.class=IMP": set(),
    })  # fmt: skip
    holds(site, "Organization", {"_has:Patient:organization:_has:RiskAssessment:patient:probability=gt0.5": {"ward"}})
    holds(site, "Encounter", {"_has:Condition:encounter:code=125605004": {"visit"}})


@shows("search", "_filter")
def test_filters(site: FhirSite) -> None:
    holds(site, "Patient", {
        "_filter=gender eq female or gender eq male": {"eve", "adam"}, "_filter=not (gender eq female)": {"adam", "nemo"},
        '_filter=family co "evans" and organization pr true': {"eve"}, "_filter=organization.name eq Ward": {"eve"},
    })  # fmt: skip


@shows("search", "_list")
def test_members_of_a_list(site: FhirSite) -> None:
    holds(site, "Patient", {"_list=mine": {"nemo"}, "_list=other": set()})


def test_whole_texts_are_not_searched(site: FhirSite) -> None:
    for query in ("_text=aardvark", "_content=aardvark"):
        issue(site.get(f"Patient?{query}"), 400, "not-supported")
    told = site.get("metadata").json()["rest"][0]["searchParam"]
    assert not {"_text", "_content"} & {each["name"] for each in told}


@shows("search", "custom")
def test_a_parameter_of_a_client(site: FhirSite) -> None:
    issue(site.get("Patient?nickname=x"), 400, "not-supported")
    made = {
        "resourceType": "SearchParameter", "id": "nickname", "url": "http://acme.org/nickname", "name": "Nickname", "status": "active", "description": "x",
        "code": "nickname", "base": ["Patient"], "type": "string", "expression": "Patient.name.where(use = 'nickname').given",
    }  # fmt: skip
    site.put(made)
    site.put({"resourceType": "Patient", "id": "nick", "name": [{"use": "nickname", "given": ["Nicky"]}]})
    assert "being indexed" in issue(site.get("Patient?nickname=nicky"), 503, "transient")["diagnostics"]
    assert site.get("Patient?nickname=nicky", Prefer="handling=lenient").json()["entry"][-1]["search"]["mode"] == "outcome"
    publish_all(site.node)
    holds(site, "Patient", {"nickname=nicky": {"nick"}, "nickname=eve": set()})
    site.delete("Patient", "nick")
    site.delete("SearchParameter", "nickname")


@shows("search", "_id", "_lastUpdated", "_tag", "_profile", "_security", "_source")
def test_parameters_of_every_resource(site: FhirSite) -> None:
    meta = {
        "tag": [{"system": "urn:t", "code": "blue"}],
        "profile": ["http://acme.org/p"],
        "source": "urn:src",
        "security": [{"code": "R"}],
    }
    site.put({"resourceType": "Location", "id": "room", "meta": meta}, {"resourceType": "Location", "id": "hall"})
    holds(site, "Location", {
        "_id=room": {"room"}, "_tag=urn:t|blue": {"room"}, "_profile=http://acme.org/p": {"room"}, "_source=urn:src": {"room"}, "_security=R": {"room"},
        "_lastUpdated=gt2020": {"room", "hall"}, "_lastUpdated=lt2020": set(),
    })  # fmt: skip
