"""What may be changed may not always be read, and a Binary is as its security context is, by whatever way it is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.fhir_site import FhirSite, fhir_site

ON_BOTH_ENGINES = True
_PATCH = "application/json-patch+json"


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        yield site


def observation(text: str = "a finding") -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": text}}


def test_who_may_only_change_is_not_told_what_there_was(site: FhirSite) -> None:
    site.put(observation())
    writer, reader = site.token("system/Observation.u"), site.token("system/Observation.ru")
    patched = site.ask("PATCH", "Observation/o", writer, body=b"[]", Content_Type=_PATCH)
    assert (patched.status_code, patched.content) == (204, b"")
    assert patched.headers["ETag"]
    known = site.ask("PATCH", "Observation/o", reader, body=b"[]", Content_Type=_PATCH)
    assert (known.status_code, known.json()["code"]) == (200, {"text": "a finding"})


@pytest.mark.parametrize(("url", "status"), [("Binary/b", "403"), ("Binary/b/_history/1", "403"), ("Binary/b/$validate", "400")])
def test_a_binary_is_not_read_past_its_security_context(site: FhirSite, url: str, status: str) -> None:
    site.put(observation(), {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "securityContext": {"reference": "Observation/o"}, "data": "c2VjcmV0"})  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": url}}]}
    answer = site.ask("POST", "", site.token("system/Binary.rs"), body=bundle)
    (entry,) = answer.json()["entry"]
    assert entry["response"]["status"].startswith(status)
    assert b"c2VjcmV0" not in answer.content
