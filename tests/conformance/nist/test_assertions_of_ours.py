"""The toolkit's tests of XUA against our own server, with assertions that are really signed, expired, for somebody else, or not signed."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from peers import imageshare, saml
from peers.saml import AUDIENCE, Provider, assertion, seconds
from peers.small_registry import unused_port

from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, run_tests
from conformance.nist.target import target_of
from conformance.nist.testkit import Testkit
from ihe import xua

TESTS = ["11897_expired", "11897_unsigned", "11897_withauthzconsent", "11966_unknownaudience", "11966_unsigned", "11990", "11966"]
_LONG = seconds(3600)


def _made(provider: Provider) -> dict[str, bytes]:
    """Each user of the toolkit with an assertion as its tests describe it."""
    consent = {xua.CONSENT_DOCUMENT: ["urn:oid:1.2.3.4"], xua.PRIVACY_POLICY: ["urn:oid:1.2.3.5"]}
    return {
        "valid": provider.sign(assertion(id_="_valid", until=_LONG)),
        "withauthzconsent": provider.sign(assertion(id_="_consent", until=_LONG, attributes=consent)),
        "expired": provider.sign(assertion(issued=seconds(-900), not_before=seconds(-900), until=seconds(-600))),
        "unknownaudience": provider.sign(assertion(audience=("urn:nobody",), until=_LONG)),
        "unsigned": assertion(until=_LONG),
    }


@pytest.fixture(scope="module")
def results(nist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TestResult]]:
    folder, port = tmp_path_factory.mktemp("xua"), unused_port()
    provider = Provider(folder)
    files = {}
    for name, content in _made(provider).items():
        (folder / f"{name}.xml").write_bytes(content)
        files[name] = str(folder / f"{name}.xml")
    believed = {
        "issuer": saml.ISSUER, "certificates": [str(provider.certificate)], "audience": [AUDIENCE],
        "scope": "user/*.cruds", "resource_id": "ignored",
    }  # fmt: skip
    settings = {"soap_assertions": "required", "trusted_assertions": orjson.dumps([believed]).decode()}
    codes = nist / "environment" / "codes.xml"
    with imageshare.running(folder / "data", mllp_port=port, affinity_domain_codes=codes, **settings) as server:
        target = target_of(
            {
                "registry": {"url": f"{server.http}/xds/registry"},
                "repository": {"url": f"{server.http}/xds/repository"},
                "feed": {"host": "127.0.0.1", "port": port},
                "saml": {"files": files, "always": True},
            }
        )
        kit = Testkit(nist / "testkit")
        yield {each.id: each for each in run_tests(kit, target, kit.chosen(TESTS), Outputs())}


@pytest.mark.parametrize("test", TESTS)
def test_who_shows_which_assertion_gets_what_the_toolkit_expects(test: str, results: dict[str, TestResult]) -> None:
    assert results[test].outcome is Outcome.PASS, [step.words for section in results[test].sections for step in section.steps]
