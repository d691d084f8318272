"""Whatever is asked, the answer is one of FHIR's and no failure: generated requests over all that the CapabilityStatement tells of."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.fhir_site import FhirSite, fhir_site

from profiles.fhir.json import parse
from profiles.fhir.search_values import modifiers
from profiles.fhir.xml import from_xml
from profiles.r4.search import parameters
from server.work.fhir import offered

RESULTS = (
    "_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude", "_include:iterate", "_cursor", "_format", "_pretty",
    "_contained", "_type", "_filter", "_has:Observation:subject:code", "_list", "_text", "_since", "_at", "_query",
)  # fmt: skip
PIECES = (
    "1", "2026", "2026-02-30", "ge2026-01-01T00:00:00Z", "ap0", "Patient/one", "http://example.org/fhir/Patient/1/_history/2", "x|y", "|", "a,b", "\\,", "$",
    "true", "-family", "Patient:general-practitioner", "*", "5.4|http://unitsofmeasure.org|mg", "1e400", "é", "'; DROP TABLE resource; --", "%", "_", "((((",
    'name eq "x" and not (birthdate gt 2000)', "count", "\ud7ff", "💀", "\n", "9" * 40, "urn:uuid:x", "#x",
)  # fmt: skip
values = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), min_size=1, max_size=3).map("".join)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A search of a type, of the system or of a compartment, or a history; most of it plausible."""
    type_ = draw(st.sampled_from(offered.types()))
    path = draw(
        st.sampled_from(
            (
                type_,
                f"Patient/one/{type_}",
                "",
                f"{type_}/_history",
                f"{type_}/one",
                "_history",
                f"{type_}/one/_history/1",
                "Patient/one/*",
            )
        )
    )
    pairs = []
    for _ in range(draw(st.integers(0, 4))):
        found = draw(st.sampled_from(tuple(parameters(type_).values())))
        name = found.code + draw(
            st.sampled_from(("", "", "", *(f":{each}" for each in sorted(modifiers(found)) if each), ".name", ":Patient", ":x"))
        )
        pairs.append(f"{quote(draw(st.sampled_from((name, name, *RESULTS))))}={quote(draw(values), errors='replace')}")
    return path + ("?" + "&".join(pairs) if pairs else "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirSite]:
    with fhir_site(tmp_path_factory.mktemp("hostile") / "data") as site:
        site.put({"resourceType": "Patient", "id": "one", "name": [{"family": "One"}], "birthDate": "1970"})
        site.put(
            {
                "resourceType": "Observation",
                "id": "one",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": "Patient/one"},
            }
        )
        yield site


@given(query=queries(), scope=st.sampled_from(("system/*.cruds", "patient/*.rs", "user/Patient.rs")))
def test_no_read_or_search_fails(site: FhirSite, query: str, scope: str) -> None:
    found = site.get(query, site.token(scope, "one"), Prefer="handling=lenient" if len(query) % 2 else "handling=strict")
    assert found.status_code in (200, 304, 400, 403, 404, 405, 406, 410), (query, found.text)
    is_xml = "xml" in found.headers["content-type"]
    resource = from_xml(found.content) if is_xml else parse(found.content)
    assert resource["resourceType"], query
    assert found.status_code == 200 or resource["resourceType"] == "OperationOutcome", query
