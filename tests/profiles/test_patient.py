from fhir.resources.R4B.patient import Patient as FhirPatient
from hypothesis import given

from conformance.generated import patients
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.patient import PersonName, display_name, fhir_names, fhir_patient, person_names
from profiles.study import Patient

MRN = PatientIdentifier("4711", AssigningAuthority("1.2.276.0.76.3.1.1"))


def test_a_patient_has_identifier_name_gender_and_birth_date() -> None:
    patient = Patient(MRN, "Adams^John Robert^Quincy^Rev.^B.A.", "19610704", "M", "p1")
    assert fhir_patient(patient) == {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:oid:1.2.276.0.76.3.1.1", "value": "4711"}],
        "name": [
            {
                "text": "Rev. John Robert Quincy Adams B.A.",
                "family": "Adams",
                "given": ["John Robert", "Quincy"],
                "prefix": ["Rev."],
                "suffix": ["B.A."],
            }
        ],
        "gender": "male",
        "birthDate": "1961-07-04",
    }


def test_what_dicom_does_not_say_is_left_out() -> None:
    assert set(fhir_patient(Patient(MRN, "^^^", "unknown", ""))) == {"resourceType", "identifier"}


def test_a_sex_that_is_no_defined_term_is_unknown() -> None:
    assert [fhir_patient(Patient(MRN, sex=sex)).get("gender") for sex in ("F", "O", "X", "")] == [
        "female",
        "other",
        "unknown",
        None,
    ]


def test_every_alphabet_is_a_name_that_says_which() -> None:
    names = fhir_names("Yamada^Tarou=山田^太郎=やまだ^たろう")
    codes = [name["extension"][0]["valueCode"] for name in names]  # type: ignore[index]
    assert codes == ["ABC", "IDE", "SYL"]
    assert names[1]["family"] == "山田"


def test_a_name_in_one_other_alphabet_says_which() -> None:
    (name,) = fhir_names("=山田^太郎")
    assert name["extension"] == [
        {"url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation", "valueCode": "IDE"}
    ]


def test_a_name_without_carets_is_a_family_name() -> None:
    assert person_names("DOE JOHN") == (PersonName(family="DOE JOHN"), None, None)
    assert display_name("DOE^JOHN^^DR") == "DR JOHN DOE"
    assert display_name("=山田^太郎") == "太郎 山田"
    assert display_name("") == ""


def test_the_local_name_of_the_authority_is_its_assigner() -> None:
    identifier = PatientIdentifier("4711", AssigningAuthority("1.2.3", "HOSPITAL"))
    assert fhir_patient(Patient(identifier))["identifier"] == [
        {"system": "urn:oid:1.2.3", "value": "4711", "assigner": {"display": "HOSPITAL"}}
    ]


@given(patients())
def test_every_patient_is_valid_fhir(patient: Patient) -> None:
    resource = fhir_patient(patient)
    model = FhirPatient.model_validate(resource)
    assert model.id == patient.id
    assert model.identifier[0].value == patient.identifier.value
