"""Which types are of patients whose compartment they are not in, by what R4 says of their search parameters."""

from profiles.fhir.expression import targets
from profiles.fhir.references import is_resource
from profiles.r4.search import compartment, parameters
from server.access.consent_whose import NAMING, is_anybodys, is_of_one, is_shared


def test_every_type_that_has_a_parameter_for_its_patient_is_somebodys() -> None:
    types = [each for each in parameters("Patient")["_id"].bases if is_resource(each)]
    assert len(types) > 140
    leading = {
        type_
        for type_ in types
        for code in ("patient", "subject", "for")
        if code in parameters(type_) and "Patient" in targets(parameters(type_)[code], type_)
    }
    assert leading - set(compartment("Patient")) - {"Patient"} == NAMING
    assert all(is_anybodys(each) and (is_of_one(each) or is_shared(each)) for each in leading)
    assert not is_anybodys("Practitioner")
    assert not is_shared("Patient")
