"""One resource for the catalogue and for clients: what each says stays, whoever came first, and neither is contradicted unseen."""

from typing import Any

import orjson
import pytest
from peers.generated import Made, send
from peers.imageshare import publish_all
from sqlalchemy import select

from profiles.audit_event import Agent
from profiles.fhir.json import parse
from server.edges.context import Node
from server.errors import Conflict, Contradiction
from server.records import catalogue, identities, resources
from server.records.index_rows import REFERENCE
from server.records.resources import RESOURCE, Stored
from server.work.corrections import Corrector
from server.work.fhir import projections
from server.work.reconcile import Actor, Reconciler, Target

FIRST = [Made(series=1, number=1), Made(series=1, number=2)]
LATE = Made(series=2, number=1)
UID = {"system": "urn:dicom:uid", "value": f"urn:oid:{FIRST[0].study_uid}"}
ADDED: dict[str, Any] = {
    "basedOn": [{"reference": "ServiceRequest/1"}], "encounter": {"reference": "Encounter/1"}, "note": [{"text": "urgent"}],
    "interpreter": [{"reference": "Practitioner/1"}], "reasonCode": [{"text": "trauma"}], "reasonReference": [{"reference": "Condition/1"}],
    "procedureCode": [{"text": "CT"}], "location": {"reference": "Location/1"}, "extension": [{"url": "http://e", "valueBoolean": True}],
    "referrer": {"reference": "Practitioner/2"},
    "meta": {"tag": [{"code": "t"}], "security": [{"code": "R"}], "profile": ["http://p"]},
}  # fmt: skip
ACTOR = Actor(Agent(identifier="tester", address="127.0.0.1"))


def _all(opened: Node, type_: str) -> list[dict[str, Any]]:
    with opened.database.read() as connection:
        bodies = connection.execute(select(RESOURCE.c.body).where(RESOURCE.c.type == type_, RESOURCE.c.deleted == 0)).scalars()
        return [parse(resources.unpacked(body)) for body in bodies]


def _one(opened: Node, type_: str) -> dict[str, Any]:
    (found,) = _all(opened, type_)
    return found


def _write(opened: Node, given: dict[str, Any]) -> Stored:
    """As a client's update does."""
    with opened.database.write() as connection:
        current = resources.locked(connection, given["resourceType"], given["id"])
        merged = given if current is None else projections.merge(connection, current, given)
        return resources.put(connection, merged)


def _published(opened: Node, *made: Made) -> None:
    send(opened, *made)
    publish_all(opened)


def _reconciler(opened: Node) -> Reconciler:
    return Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)


def _corrector(opened: Node) -> Corrector:
    return Corrector(_reconciler(opened), opened.database, opened.blobs, opened.installation.patients.oid)


def _require_deletable(opened: Node, type_: str, id_: str) -> None:
    with opened.database.write() as connection:
        current = resources.locked(connection, type_, id_)
        assert current is not None
        projections.require_deletable(connection, current)


def test_what_a_client_adds_to_a_study_outlives_its_publications(opened: Node) -> None:
    _published(opened, *FIRST)
    _write(opened, {**_one(opened, "ImagingStudy"), **ADDED})
    _published(opened, LATE)
    study = _one(opened, "ImagingStudy")
    assert study["numberOfInstances"] == 3
    assert {key: study[key] for key in ADDED if key != "meta"} == {key: ADDED[key] for key in ADDED if key != "meta"}
    assert study["meta"].items() >= ADDED["meta"].items()
    assert study["meta"]["versionId"] == "3"


@pytest.mark.parametrize("element", projections.OWNED)
def test_a_client_does_not_contradict_the_catalogue(opened: Node, element: str) -> None:
    _published(opened, *FIRST)
    study = _one(opened, "ImagingStudy")
    other = {"status": "cancelled", "description": "another", "started": "1999", "subject": {"reference": "Patient/other"}}.get(
        element, []
    )
    if element.startswith("number"):
        other = 99
    with pytest.raises(Contradiction) as told:
        _write(opened, {**study, element: other})
    assert (told.value.http_status, told.value.expression) == (422, f"ImagingStudy.{element}")
    assert told.value.issues[0].expression == f"ImagingStudy.{element}"
    assert _one(opened, "ImagingStudy") == study


def test_another_study_uid_contradicts_and_other_identifiers_are_added(opened: Node) -> None:
    _published(opened, *FIRST)
    study = _one(opened, "ImagingStudy")
    with pytest.raises(Contradiction, match=r"ImagingStudy\.identifier"):
        _write(opened, {**study, "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:9.9"}]})
    own = {"system": "http://ours", "value": "7"}
    _write(opened, {**study, "identifier": [own]})
    _published(opened, LATE)
    assert _one(opened, "ImagingStudy")["identifier"] == [*study["identifier"], own]


def _accession(value: str, **more: Any) -> dict[str, Any]:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
    return {"type": kind, "value": value, **more}


@pytest.mark.parametrize(
    "given", [[_accession("FALSE")], [{"value": "A1"}], [{**UID, "use": "old"}], [_accession("A1", use="old")]]
)
def test_accession_number_and_uid_are_as_the_catalogue_says_them(opened: Node, given: list[dict[str, Any]]) -> None:
    """As whole identifiers: another one of that type, or the same without its type, would stand beside it after the next publication."""
    _published(opened, *FIRST)
    study = _one(opened, "ImagingStudy")
    with pytest.raises(Contradiction, match=r"ImagingStudy\.identifier"):
        _write(opened, {**study, "identifier": [*study["identifier"], *given]})
    with pytest.raises(Contradiction, match=r"ImagingStudy\.identifier"):
        _write(opened, {**study, "identifier": given})
    _published(opened, LATE)
    assert _one(opened, "ImagingStudy")["identifier"] == study["identifier"] == [UID, _accession("A1")]


def test_what_a_client_leaves_out_is_kept(opened: Node) -> None:
    _published(opened, *FIRST)
    study = _one(opened, "ImagingStudy")
    kept = {key: study[key] for key in ("resourceType", "id", "status", "subject")}
    _write(opened, {**kept, "note": [{"text": "n"}]})
    assert {**_one(opened, "ImagingStudy"), "meta": 0} == {**study, "note": [{"text": "n"}], "meta": 0}


@pytest.mark.parametrize("already_placed", [False, True])
def test_a_study_and_a_patient_that_clients_made_first_are_those_that_are_published(opened: Node, already_placed: bool) -> None:
    """Before the images came, or between their coming and their publication."""
    if already_placed:
        send(opened, *FIRST)
    identifier = {"system": f"urn:oid:{opened.installation.patients.oid}", "value": FIRST[0].patient}
    patient = {
        "resourceType": "Patient", "id": "theirs", "identifier": [identifier], "active": True,
        "name": [{"family": "Said by the EHR"}],
    }  # fmt: skip
    study = {
        "resourceType": "ImagingStudy", "id": "mine", "identifier": [UID], "status": "registered", "note": [{"text": "n"}],
        "subject": {"reference": "Patient/theirs"}, "description": "another",
    }  # fmt: skip
    for each in (patient, study):
        _write(opened, each)
    if not already_placed:
        send(opened, *FIRST)
    publish_all(opened)
    shown = _one(opened, "ImagingStudy")
    assert (shown["id"], shown["status"], shown["note"]) == ("mine", "available", [{"text": "n"}])
    assert (shown["description"], shown["subject"]) == ("GENERATED", {"reference": "Patient/theirs"})
    told = _one(opened, "Patient")
    assert (told["id"], told["name"], told["active"]) == ("theirs", [{"family": "Said by the EHR"}], True)
    with opened.database.read() as connection:
        assert catalogue.load(connection, 1).id == "mine"
        assert catalogue.load(connection, 1).patient.id == "theirs"
        assert resources.vread(connection, "ImagingStudy", "mine", 1).body


def test_what_a_client_says_of_a_patient_is_not_overwritten_by_images_but_by_a_correction(opened: Node) -> None:
    _published(opened, *FIRST)
    patient = _one(opened, "Patient")
    _write(opened, {**patient, "name": [{"family": "Married"}], "telecom": [{"value": "1"}], "identifier": []})
    _published(opened, LATE)
    told = _one(opened, "Patient")
    assert (told["name"], told["telecom"], told["identifier"]) == (
        [{"family": "Married"}],
        [{"value": "1"}],
        patient["identifier"],
    )
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    corrector = Corrector(reconciler, opened.database, opened.blobs, opened.installation.patients.oid)
    corrector.update_patient(patient["id"], {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Right^Name"}]}}, actor=ACTOR)
    told = _one(opened, "Patient")
    assert (told["name"][0]["family"], told["telecom"]) == ("Right", [{"value": "1"}])


EHR: dict[str, Any] = {"name": [{"use": "official", "family": "Fromehr"}], "birthDate": "1980-05-05", "gender": "other"}
"""Other than all images say."""


@pytest.mark.parametrize(
    ("attributes", "changed"),
    [
        ({"00100040": {"vr": "CS", "Value": ["F"]}}, {"gender": "female"}),
        ({"00100030": {"vr": "DA", "Value": ["19810606"]}}, {"birthDate": "1981-06-06"}),
        ({"00100040": {"vr": "CS", "Value": []}, "00100030": {"vr": "DA"}}, {"gender": None, "birthDate": None}),
    ],
)
def test_a_correction_replaces_what_it_names(opened: Node, attributes: dict[str, Any], changed: dict[str, Any]) -> None:
    """HL7 ADT A08 of the sex does not bring back the name of the images."""
    _published(opened, *FIRST)
    patient = _one(opened, "Patient")
    _write(opened, {**patient, **EHR})
    _corrector(opened).update_patient(patient["id"], attributes, actor=ACTOR)
    told = _one(opened, "Patient")
    assert {element: told.get(element) for element in EHR} == {**EHR, **changed}


def test_a_merge_says_nothing_of_demographics(opened: Node) -> None:
    """HL7 ADT A40: who replaces whom. What clients said of either stays, and the link that says so is not theirs to remove."""
    _published(opened, *FIRST, Made(study=2, patient="P2"))
    source, target = sorted(_all(opened, "Patient"), key=lambda each: str(each["identifier"][0]["value"]))
    other = {"other": {"reference": "Patient/x"}, "type": "seealso"}
    _write(opened, {**source, **EHR, "telecom": [{"value": "1"}], "link": [other]})
    _write(opened, {**target, **EHR, "name": [{"family": "Kept"}]})
    _corrector(opened).merge(source["id"], target["id"], actor=ACTOR)
    replaced, kept = ({each["id"]: each for each in _all(opened, "Patient")}[each["id"]] for each in (source, target))
    assert {element: kept.get(element) for element in (*EHR, "active")} == {**EHR, "name": [{"family": "Kept"}], "active": None}
    link = {"other": {"reference": f"Patient/{target['id']}"}, "type": "replaced-by"}
    assert {element: replaced[element] for element in EHR} == EHR
    assert (replaced["active"], replaced["link"], replaced["telecom"]) == (False, [link, other], [{"value": "1"}])
    for wrong in ({"active": True}, {"link": [{**link, "other": {"reference": "Patient/x"}}]}):
        with pytest.raises(Contradiction, match=f"Patient.{next(iter(wrong))}"):
            _write(opened, {**replaced, **wrong})
    _write(opened, {"resourceType": "Patient", "id": source["id"], "gender": "male"})
    written = {each["id"]: each for each in _all(opened, "Patient")}[source["id"]]
    assert (written["active"], written["link"], written["gender"]) == (False, [link], "male")
    assert written["identifier"] == source["identifier"]
    with pytest.raises(Conflict, match="merged into"):
        _require_deletable(opened, "Patient", source["id"])


def test_absolute_references_are_found_after_the_catalogue_wrote_as_before(opened: Node) -> None:
    """What a reference leads to is known by our base URL: each of the catalogue's writes goes by the same."""
    _published(opened, *FIRST)
    base = f"{opened.settings.base_url}/fhir"
    patient, study = _one(opened, "Patient"), _one(opened, "ImagingStudy")
    with opened.database.write() as connection:
        resources.put(connection, {"resourceType": "Organization", "id": "1", "name": "o"})
        led = {
            **resources.content(connection, "Patient", patient["id"]),
            "managingOrganization": {"reference": f"{base}/Organization/1"},
        }
        resources.put(connection, led, base=base)
        ordered = {
            **resources.content(connection, "ImagingStudy", study["id"]),
            "encounter": {"reference": f"{base}/Encounter/1"},
        }
        resources.put(connection, ordered, base=base)
    _corrector(opened).update_patient(patient["id"], {"00100040": {"vr": "CS", "Value": ["M"]}}, actor=ACTOR)
    _published(opened, LATE)
    with opened.database.read() as connection:
        leads = connection.execute(select(REFERENCE.c.target_type, REFERENCE.c.target_id)).all()
    assert {("Organization", "1"), ("Encounter", "1")} <= {tuple(each) for each in leads}
    assert _one(opened, "Patient")["gender"] == "male"


def test_a_patient_whose_identifiers_two_domains_share_is_adopted_once(opened: Node) -> None:
    """A client says that two of the catalogue's patients are one; images go on being published."""
    _published(opened, *FIRST)
    one = _one(opened, "Patient")
    other = {"system": "urn:oid:1.2.3.4", "value": "77"}
    _write(opened, {**one, "identifier": [*one["identifier"], other]})
    with opened.database.write() as connection:
        assert identities.by_identity(connection, "Patient", other["system"], other["value"]) == one["id"]
        made = projections.published(
            connection, {"resourceType": "Patient", "id": "second", "identifier": [other]}, now=1_000_000, base=""
        )
    assert (made.id, made.version) == ("second", 1)


def test_endpoint_and_manifest_take_only_tags(opened: Node) -> None:
    _published(opened, *FIRST)
    for type_, change in (("Endpoint", {"status": "off"}), ("DocumentReference", {"description": "another"})):
        own = _one(opened, type_)
        with pytest.raises(Contradiction, match=f"{type_}.{next(iter(change))}"):
            _write(opened, {**own, **change})
        _write(opened, {**own, "meta": {"tag": [{"code": "t"}]}})
    _published(opened, LATE)
    assert _one(opened, "Endpoint")["meta"]["tag"] == [{"code": "t"}]
    assert [each["status"] for each in _all(opened, "DocumentReference")] == ["superseded", "current"]


def test_what_the_catalogue_has_is_not_deleted_by_fhir(opened: Node) -> None:
    _published(opened, *FIRST)
    for type_ in ("ImagingStudy", "Patient", "Endpoint", "DocumentReference"):
        own = _one(opened, type_)
        with opened.database.write() as connection:
            current = resources.locked(connection, type_, own["id"])
            assert current is not None
            with pytest.raises(Conflict, match=f"this {type_} is not deleted by FHIR"):
                projections.require_deletable(connection, current)
    with opened.database.write() as connection:
        foreign = resources.create(connection, {"resourceType": "Patient", "id": "x"})
        projections.require_deletable(connection, foreign)


def test_what_was_purged_can_be_deleted_and_comes_again(opened: Node) -> None:
    """Nothing of its images is here any more. When they come again they are shown as the same resources."""
    _published(opened, *FIRST)
    study, patient = _one(opened, "ImagingStudy"), _one(opened, "Patient")
    reconciler = _reconciler(opened)
    reconciler.purge(Target(FIRST[0].study_uid), actor=ACTOR)
    for each in (study, patient):
        _require_deletable(opened, each["resourceType"], each["id"])
        with opened.database.write() as connection:
            resources.delete(connection, each["resourceType"], each["id"])
    with opened.database.write() as connection:
        again = {"resourceType": "Patient", "id": "again", "identifier": patient["identifier"], "telecom": [{"value": "1"}]}
        resources.put(connection, again)
        resources.put(connection, {"resourceType": "Patient", "id": "other"})
        planted = {"resourceType": "ImagingStudy", "id": study["id"], "status": "registered", "note": [{"text": "planted"}]}
        resources.put(connection, {**planted, "subject": {"reference": "Patient/other"}})
    reconciler.restore(Target(FIRST[0].study_uid), actor=ACTOR)
    _published(opened, *FIRST)
    (shown,) = [each for each in _all(opened, "ImagingStudy") if each["id"] != study["id"]]
    assert (shown["subject"]["reference"], shown["status"], "note" in shown) == ("Patient/again", "available", False)
    told = {each["id"]: each for each in _all(opened, "Patient")}["again"]
    assert (told["telecom"], told["name"]) == ([{"value": "1"}], patient["name"])


def test_a_rejected_study_keeps_what_clients_said_and_a_purged_one_nothing(opened: Node) -> None:
    _published(opened, *FIRST)
    _write(opened, {**_one(opened, "ImagingStudy"), **ADDED})
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    target = Target(FIRST[0].study_uid)
    reconciler.reject(target, reason="113001", actor=ACTOR)
    assert _one(opened, "ImagingStudy")["status"] == "entered-in-error"
    reconciler.restore(target, actor=ACTOR)
    assert _one(opened, "ImagingStudy")["note"] == ADDED["note"]
    reconciler.purge(target, actor=ACTOR)
    left = _one(opened, "ImagingStudy")
    assert not {*ADDED} - {"meta"} & {*left}
    assert b"urgent" not in orjson.dumps(left)
