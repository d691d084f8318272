"""Whatever an app with a patient/ scope writes, in whatever way, another patient's resources stay as they are, and nothing becomes theirs."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.fhir_site import FhirSite, fhir_site

Json = dict[str, Any]
_OWNERS = ("mine", "other")
_IDS = ("own", "theirs", "new")
_JSON_PATCH = "application/json-patch+json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("access") / "data") as site:
        site.put({"resourceType": "Patient", "id": "mine"}, {"resourceType": "Patient", "id": "other"})
        site.put(observation("mine", "own"), observation("other", "theirs"))
        yield site


def observation(owner: str, id_: str, text: str = "x") -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "identifier": [{"value": id_}],
        "status": "final",
        "code": {"text": text},
        "subject": {"reference": f"Patient/{owner}"},
    }


def entry(method: str, url: str, resource: Json | None = None, **request: str) -> Json:
    found: Json = {"request": {"method": method, "url": url, **request}}
    return found if resource is None else {"resource": resource, **found}


_TEXTS = st.sampled_from(["x", "y"])
_OBSERVATIONS = st.builds(observation, st.sampled_from(_OWNERS), st.sampled_from(_IDS), _TEXTS)
_ID = st.sampled_from(_IDS)
_MOVES: list[Json] = [
    {"name": "operation", "part": [{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.subject.reference"}, {"name": "value", "valueString": f"Patient/{owner}"}]}
    for owner in _OWNERS
]  # fmt: skip
_ENTRIES = st.one_of(
    _OBSERVATIONS.map(lambda each: entry("POST", "Observation", each)),
    _OBSERVATIONS.map(lambda each: entry("POST", "Observation", each, ifNoneExist=f"identifier={each['id']}")),
    _OBSERVATIONS.map(lambda each: entry("PUT", f"Observation/{each['id']}", each)),
    _OBSERVATIONS.map(lambda each: entry("PUT", f"Observation?identifier={each['id']}", each)),
    _ID.map(lambda id_: entry("DELETE", f"Observation/{id_}")),
    _ID.map(lambda id_: entry("DELETE", f"Observation?identifier={id_}")),
    st.builds(
        lambda id_, move: entry("PATCH", f"Observation/{id_}", {"resourceType": "Parameters", "parameter": [move]}),
        _ID,
        st.sampled_from(_MOVES),
    ),
    st.sampled_from(_OWNERS).map(
        lambda id_: entry("PUT", f"Patient/{id_}", {"resourceType": "Patient", "id": id_, "active": True})
    ),
    st.just(entry("DELETE", "Patient/other")),
)


def alone(site: FhirSite, token: dict[str, str], each: Json) -> int:
    """One entry as a request of its own."""
    request = each["request"]
    headers = {"If_None_Exist": request["ifNoneExist"]} if "ifNoneExist" in request else {}
    return site.ask(request["method"], request["url"], token, body=each.get("resource"), **headers).status_code


@settings(max_examples=40)
@given(st.lists(_ENTRIES, min_size=1, max_size=4), st.sampled_from(["alone", "batch", "transaction"]))
def test_nothing_of_another_patient_is_touched(site: FhirSite, entries: list[Json], how: str) -> None:
    token = site.token("patient/*.cruds", patient="mine")
    if how == "alone":
        statuses = [alone(site, token, each) for each in entries]
    else:
        body = {"resourceType": "Bundle", "type": how, "entry": entries}
        statuses = [site.ask("POST", "", token, body=body).status_code]
    assert max(statuses) < 500
    with_everything = site.bundle("Observation?patient=Patient/other")
    assert [each["resource"]["id"] for each in with_everything["entry"]] == ["theirs"]
    assert site.get("Observation/theirs").headers["etag"] == 'W/"1"'
    assert site.get("Patient/other").headers["etag"] == 'W/"1"'
