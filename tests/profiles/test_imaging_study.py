from dataclasses import replace
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.imagingstudy import ImagingStudy
from hypothesis import given, settings
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from conformance.generated import studies
from profiles import anatomy, modalities
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.imaging_study import endpoint, imaging_study
from profiles.study import Instance, Patient, Series, Study

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "testdata"
CT = "1.2.840.10008.5.1.4.1.1.2"
CID_29 = {code for keyword in cid_concepts[29]["DCM"] for code, (_, groups) in concepts["DCM"][keyword].items() if 29 in groups}
STUDY = Study(
    study_instance_uid="1.2.3",
    patient=Patient(PatientIdentifier("4711", AssigningAuthority("1.2.9")), "DOE^JOHN", id="p1"),
    accession_number="A-1",
    accession_authority="1.2.8",
    date="20260107",
    time="101112",
    description="CT of the chest",
    referring_physician="House^Gregory^^Dr.",
    series=(
        Series(
            "1.2.3.1",
            "CT",
            2,
            "Lung",
            "CHEST",
            "L",
            "20260107",
            "101500",
            (Instance("1.2.3.1.1", CT, "1.2.840.10008.1.2.1", 1, frames=1, title="Scout"),),
        ),
        Series("1.2.3.2", "", body_part="SOMEWHERE", instances=(Instance("1.2.3.2.1", CT, "1.2.840.10008.1.2.1", -1),)),
    ),
    id="s1",
    version=1,
)


def test_a_study_is_one_imaging_study_with_everything_in_it() -> None:
    assert imaging_study(STUDY, "wado", ZoneInfo("Europe/Berlin")) == {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "identifier": [
            {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"},
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
                "system": "urn:oid:1.2.8",
                "value": "A-1",
            },
        ],
        "status": "available",
        "modality": [
            {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT", "display": "Computed Tomography"},
        ],
        "subject": {"reference": "Patient/p1"},
        "started": "2026-01-07T10:11:12+01:00",
        "referrer": {"display": "Dr. Gregory House"},
        "endpoint": [{"reference": "Endpoint/wado"}],
        "numberOfSeries": 2,
        "numberOfInstances": 2,
        "description": "CT of the chest",
        "series": [
            {
                "uid": "1.2.3.1",
                "number": 2,
                "modality": {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": "CT",
                    "display": "Computed Tomography",
                },
                "description": "Lung",
                "numberOfInstances": 1,
                "endpoint": [{"reference": "Endpoint/wado"}],
                "bodySite": {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"},
                "laterality": {"system": "http://snomed.info/sct", "code": "7771000", "display": "Left"},
                "started": "2026-01-07T10:15:00+01:00",
                "instance": [
                    {
                        "uid": "1.2.3.1.1",
                        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{CT}"},
                        "number": 1,
                        "title": "Scout",
                    }
                ],
            },
            {
                "uid": "1.2.3.2",
                "modality": {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": "OT",
                    "display": "Other Modality",
                },
                "numberOfInstances": 1,
                "endpoint": [{"reference": "Endpoint/wado"}],
                "bodySite": {"display": "SOMEWHERE"},
                "instance": [{"uid": "1.2.3.2.1", "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{CT}"}}],
            },
        ],
    }


def test_an_accession_number_of_an_unknown_authority_has_no_system() -> None:
    identifiers = imaging_study(replace(STUDY, accession_authority=""), "wado", UTC)["identifier"]
    assert isinstance(identifiers, list)
    assert "system" not in identifiers[1]


def test_the_endpoint_is_a_wado_rs_base_that_wants_the_token() -> None:
    resource = endpoint("wado", "https://images.example.org/dicomweb/", "Images")
    Endpoint.model_validate(resource)
    assert resource["address"] == "https://images.example.org/dicomweb"
    assert resource["extension"] == [
        {"url": "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token", "valueBoolean": True}
    ]
    assert resource["connectionType"] == {
        "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
        "code": "dicom-wado-rs",
    }


@given(studies())
@settings(deadline=None)
def test_every_study_is_valid_and_meets_the_smart_imaging_profile(study: Study) -> None:
    resource = orjson.loads(orjson.dumps(imaging_study(study, "wado", ZoneInfo("America/New_York"))))
    model = ImagingStudy.model_validate(resource)
    uids = [each for each in resource["identifier"] if each["system" if "system" in each else "value"] == "urn:dicom:uid"]
    assert uids == [{"system": "urn:dicom:uid", "value": f"urn:oid:{study.study_instance_uid}"}]
    assert resource["modality"]
    assert resource["endpoint"]
    assert model.numberOfSeries == len(study.series)
    assert model.numberOfInstances == study.instance_count
    projected = {each["uid"]: [instance["uid"] for instance in each["instance"]] for each in resource["series"]}
    assert projected == {each.series_instance_uid: [one.sop_instance_uid for one in each.instances] for each in study.series}
    every, told = [each["modality"]["code"] for each in resource["series"]], [each["code"] for each in resource["modality"]]
    acquired = [term for term in every if term in CID_29]
    assert told == list(dict.fromkeys(acquired or every))


@pytest.mark.parametrize(
    ("series", "told"),
    [
        (["KO", "CT", "SR", "PT", "CT"], ["CT", "PT"]),
        (["SEG", "", "PR", "SEG"], ["SEG", "OT", "PR"]),
        (["MR", "HOUSE TERM"], ["MR"]),
        (["HOUSE TERM"], ["HOUSE TERM"]),
    ],
)
def test_a_study_has_the_modalities_that_acquired_it(series: list[str], told: list[str]) -> None:
    study = replace(STUDY, series=tuple(Series(f"1.2.3.{number}", term) for number, term in enumerate(series, 1)))
    assert modalities.acquisition_modalities(study) == tuple(told)
    resource = orjson.loads(orjson.dumps(imaging_study(study, "wado", UTC)))
    assert [each["code"] for each in resource["modality"]] == told
    assert [each["modality"]["code"] for each in resource["series"]] == [term or "OT" for term in series]


def test_acquisition_modalities_are_those_of_dicoms_own_context_group() -> None:
    assert modalities.acquisition() == CID_29


def test_a_study_without_series_still_is_one() -> None:
    resource = imaging_study(replace(STUDY, series=(), modalities=("CT",)), "wado", UTC)
    assert resource["numberOfInstances"] == 0
    ImagingStudy.model_validate(resource)


def test_regions_have_the_codes_of_dicoms_own_dictionary() -> None:
    known = {(code, meaning) for entries in concepts["SCT"].values() for code, (meaning, _) in entries.items()}
    assert set(anatomy.defined_terms().values()) <= known


def test_modalities_have_the_meanings_of_dicoms_own_dictionary() -> None:
    known = {(code, meaning) for entries in concepts["DCM"].values() for code, (meaning, _) in entries.items()}
    assert set(modalities.meanings().items()) <= known


@pytest.mark.parametrize("written", ["HEADNECK", "Head Neck", "HEAD_NECK", " head-neck "])
def test_a_region_is_found_as_equipment_writes_it(written: str) -> None:
    found = anatomy.region(written)
    assert found is not None
    assert found.code == "774007"


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/testdata is not here")
def test_regions_agree_with_the_affinity_domain_of_the_nist_toolkit() -> None:
    text = (SHARED / "nist/environment/codes.xml").read_text()
    for term in ("ABDOMEN", "BRAIN", "CLAVICLE", "KNEE", "LSPINE"):
        found = anatomy.region(term)
        assert found is not None
        assert f'code="{found.code}"' in text
