"""What conditions find: codes, units, texts, dates, what is in the catalogue; and what meets a condition of an interaction."""

from pathlib import Path

import pytest
from peers.fhir_search import asked, everybody, filled, found, observation, study
from peers.generated import CT, Made, send
from peers.imageshare import node, publish_all
from sqlalchemy import Connection, select

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.expression import compiled
from profiles.r4.search import parameters
from server.errors import NotSupported, Refused
from server.records import fhir_search, resources
from server.records.fhir_search import ordered
from server.records.fhir_search.terms import RESOURCE, TOKEN
from server.records.index_keys import token_hash
from server.store.many import many


def test_codes_of_value_sets_and_hierarchies(connection: Connection) -> None:
    """The standard's own, and those that are stored here."""
    for id_, gender in (("p1", "male"), ("p2", "unknown"), ("p3", None)):
        resources.put(connection, {"resourceType": "Patient", "id": id_, **({"gender": gender} if gender else {})})
    for code in ("a", "b", "c"):
        resources.put(connection, observation(code, code))
    own = {"resourceType": "CodeSystem", "id": "c", "url": "urn:c", "status": "active", "content": "complete"}
    resources.put(connection, {**own, "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "c"}]})
    include = [{"system": "urn:c", "filter": [{"property": "concept", "op": "is-a", "value": "a"}]}]
    value_set = {
        "resourceType": "ValueSet",
        "id": "v",
        "url": "http://v.example/v",
        "status": "active",
        "compose": {"include": include},
    }
    resources.put(connection, value_set)
    genders = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert found(connection, "Patient", f"gender:in={genders}") == ["p2", "p1"]
    assert found(connection, "Patient", f"gender:not-in={genders}") == ["p3"]
    assert found(connection, "Observation", "code:in=http://v.example/v") == ["b", "a"]
    assert found(connection, "Observation", "code:not-in=http://v.example/v") == ["c"]
    assert found(connection, "Observation", "code:below=urn:c|a") == ["b", "a"]
    assert found(connection, "Observation", "code:above=urn:c|b") == ["b", "a"]
    for query in ("code:in=http://v.example/unknown", "code:below=a", "code:above=urn:unknown|a"):
        with pytest.raises(NotSupported):
            found(connection, "Observation", query)


def test_units_are_converted(connection: Connection) -> None:
    for id_, value, code in (("a", 5, "mg"), ("b", 0.005, "g"), ("c", 5, "g"), ("d", 5, "mL")):
        quantity = {"value": value, "unit": code, "system": "http://unitsofmeasure.org", "code": code}
        resources.put(connection, observation(id_, valueQuantity=quantity))
    ucum = "|http://unitsofmeasure.org|"
    assert found(connection, "Observation", f"value-quantity=5{ucum}mg") == ["b", "a"]
    assert found(connection, "Observation", f"value-quantity=gt0.1{ucum}g") == ["c"]
    assert found(connection, "Observation", f"value-quantity=5000{ucum}ug") == ["b", "a"]
    assert found(connection, "Observation", "value-quantity=5||mg") == ["a"]
    with pytest.raises(Refused, match="unit's code"):
        found(connection, "Observation", f"value-quantity=5{ucum}")


@pytest.mark.parametrize("query", ["_text=x", "_content=x", "code-value-quantity:missing=true"])
def test_what_is_not_offered_is_refused(connection: Connection, query: str) -> None:
    with pytest.raises(NotSupported):
        found(connection, "Observation", query)


@pytest.mark.parametrize(
    ("types", "parameter"),
    [("Patient", "name"), ("Patient", "family:contains"), ("ValueSet", "url:below"), ("Questionnaire", "title"), ("PlanDefinition", "depends-on:below")],
)  # fmt: skip
def test_a_part_of_a_text_that_no_index_has_is_refused(connection: Connection, types: str, parameter: str) -> None:
    """What an index does not have is neither there nor not there; the whole text can be asked for."""
    long = "http://x.example/" + "a" * 143
    resources.put(connection, {"resourceType": "ValueSet", "id": "v", "status": "active", "url": long + "b" * 300})
    text = long if "below" in parameter else "a" * 160
    assert found(connection, types, f"{parameter}={text}") == (["v"] if types == "ValueSet" else [])
    with pytest.raises(Refused, match="160") as told:
        found(connection, types, f"{parameter}={text}a")
    assert told.value.fhir_code == "too-long"
    assert found(connection, "ValueSet", f"url={long}{'b' * 300}") == ["v"]


def test_a_clinical_date_is_short_where_it_is_never_a_period() -> None:
    """From the definitions: media may be made over years (FHIR R4, Media.created[x] is dateTime or Period)."""
    for type_, code in CLINICAL_DATE.items():
        paths = compiled(parameters(type_)[code].expression, type_).paths
        assert ordered.is_short(type_) <= (not any(each.type in ("Period", "Timing") for each in paths)), type_
    assert [each for each in ("ImagingStudy", "DocumentReference", "Media", "Observation", "Encounter") if ordered.is_short(each)] == [
        "ImagingStudy", "DocumentReference",
    ]  # fmt: skip


def test_a_long_period_overlaps_what_is_asked_for_beyond_a_year(connection: Connection) -> None:
    """FHIR R4 section 3.1.1.4.5, gt, ge, ap: the range above the value overlaps the range of the resource."""
    period = {"start": "2010", "end": "2020"}
    media = {"resourceType": "Media", "id": "m", "status": "completed", "content": {"url": "http://x.example/m"}}
    resources.put(connection, {**media, "createdPeriod": period})
    for query in ("created=gt2019", "created=ge2019", "created=ap2019", "created=lt2011", "created=sa2009"):
        assert found(connection, "Media", query) == ["m"], query
    assert found(connection, "Media", "created=gt2020") == []


# --- the catalogue


@pytest.mark.parametrize("query", ["_sort=series", "_sort=-instance", "_sort=-started,dicom-class"])
def test_studies_are_not_sorted_by_what_they_have_many_of(connection: Connection, query: str) -> None:
    with pytest.raises(NotSupported):
        found(connection, "ImagingStudy", query)


def test_a_study_that_only_clients_wrote_says_whether_it_has_series(connection: Connection) -> None:
    resources.put(connection, study("s1"))
    resources.put(connection, {**study("s2"), "series": []})
    assert found(connection, "ImagingStudy", "series:missing=false") == ["s1"]
    assert found(connection, "ImagingStudy", "series:missing=true") == ["s2"]
    assert found(connection, "ImagingStudy", "instance:missing=true&series=1.2.1.1") == ["s1"]


def test_series_instances_and_sop_classes_are_found_in_the_catalogue(tmp_path: Path, database_url: str) -> None:
    one = Made()
    with node(tmp_path / "data", database_url) as opened:
        send(opened, one)
        with opened.database.read() as connection:
            assert found(connection, "ImagingStudy", f"series={one.series_uid}") == []  # not yet published
        publish_all(opened)
        with opened.database.read() as connection:
            (id_,) = found(connection, "ImagingStudy")
            rows = connection.execute(select(RESOURCE.c.pk).where(RESOURCE.c.id == id_)).scalar_one()
            assert not {row[0] for row in many(TOKEN).of(connection, rows)} & {
                token_hash("ImagingStudy", "series", None, one.series_uid)
            }
            series, instance, sop_class = one.series_uid, one.uid, CT
            for query in (f"series={series}", f"series=urn:oid:{series}", f"instance={instance}", f"instance=urn:dicom:uid|{instance}",
                          f"dicom-class=urn:ietf:rfc:3986|urn:oid:{sop_class}", "series:missing=false", "instance:not=1.2"):  # fmt: skip
                assert found(connection, "ImagingStudy", query) == [id_], query
            for query in (
                "series=1.2",
                "instance=urn:oid:1.2",
                f"dicom-class={sop_class}.1",
                "series:missing=true",
                f"series:not={series}",
            ):
                assert found(connection, "ImagingStudy", query) == [], query


@pytest.mark.parametrize("system", ["", "urn:oid:"])
def test_series_instances_and_sop_classes_of_a_study_without_images_here(connection: Connection, system: str) -> None:
    """FHIR R4 section 9.7.5: another system's study, as its client wrote it."""
    instance = {"uid": f"{system}1.2.3.4", "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{CT}"}}
    resources.put(connection, study("s1", series=[{"uid": f"{system}1.2.3", "modality": {"code": "CT"}, "instance": [instance]}]))
    resources.create_all(connection, [study("s2", series=[])])
    for query in ("series=1.2.3", "series=urn:oid:1.2.3", "series=urn:dicom:uid|1.2.3", "instance=1.2.3.4", f"dicom-class=urn:oid:{CT}",
                  "series:missing=false", "instance:missing=false", "series:not=1.2.4&series:missing=false"):  # fmt: skip
        assert found(connection, "ImagingStudy", query) == ["s1"], query
    for query in ("series=1.2", "instance=1.2.3", "dicom-class=1.2", "series=urn:other|1.2.3"):
        assert found(connection, "ImagingStudy", query) == [], query
    for query in ("series:missing=true", "series:not=1.2.3", "dicom-class:missing=true"):
        assert found(connection, "ImagingStudy", query) == ["s2"], query


# --- conditional interactions


def test_ids_are_those_that_match_just_now(connection: Connection) -> None:
    filled(connection, 3)
    search = asked("ImagingStudy", "identifier=urn:dicom:uid|urn:oid:1.2.2")
    assert fhir_search.ids(connection, search, decision_where=everybody, limit=2) == ["s2"]
    assert len(fhir_search.ids(connection, asked("ImagingStudy", "status=available"), decision_where=everybody, limit=2)) == 2
    resources.delete(connection, "ImagingStudy", "s2")
    assert fhir_search.ids(connection, search, decision_where=everybody, limit=2) == []
    with pytest.raises(NotSupported):
        fhir_search.ids(connection, asked("Patient,ImagingStudy", "_id=a"), decision_where=everybody, limit=2)
