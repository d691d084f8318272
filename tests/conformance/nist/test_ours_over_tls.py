"""The kit as a partner on the wire of a connectathon (ITI TF-2 section 3.19): HTTP and the feed over TLS, known by its certificate alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import imageshare
from peers.authority import Authority
from peers.small_registry import unused_port

from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, run_tests
from conformance.nist.target import read_target
from conformance.nist.testkit import Testkit

CHOSEN = ["11990", "11966"]
"""One of the registry, which is fed patients, and one of the repository, whose documents go both ways."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("server", "kit", "unknown"):
        made.issue(name)
    return made


@pytest.fixture(scope="module")
def endpoints(nist: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the kit is told of a server that asks everybody for a certificate."""
    folder, port = authority.folder, unused_port()
    shown = {
        f"{edge}_tls_{part}": path
        for edge in ("http", "mllp")
        for part, path in (("certificate", folder / "server.pem"), ("key", folder / "server.key"), ("ca", authority.path))
    }
    partners = json.dumps([{"name": "kit", "certificates": [str(folder / "kit.pem")], "scope": "system/*.cruds"}])
    codes = nist / "environment" / "codes.xml"
    with imageshare.running(
        tmp_path_factory.mktemp("site") / "data", public_url="https://images.example.org", http_tls_require=True, mllp_tls_port=port,
        partners=partners, affinity_domain_codes=codes, **shown,
    ) as server:  # fmt: skip
        yield "\n".join(
            (
                f'[registry]\nurl = "{server.http}/xds/registry"',
                f'[repository]\nurl = "{server.http}/xds/repository"',
                f'[feed]\nhost = "127.0.0.1"\nport = {port}\ntls = true',
                f'[tls]\nca = "{authority.path.name}"\ncheck_host = true\n',
            )
        )


def run(nist: Path, authority: Authority, endpoints: str, shown: str) -> list[TestResult]:
    file = authority.folder / "endpoints.toml"
    file.write_text(endpoints + shown)
    kit = Testkit(nist / "testkit")
    return run_tests(kit, read_target(file), kit.chosen(CHOSEN), Outputs(schemas=nist / "schema" / "v3"))


def test_the_kit_passes_with_the_certificate_of_a_partner(nist: Path, authority: Authority, endpoints: str) -> None:
    found = run(nist, authority, endpoints, 'certificate = "kit.pem"\nkey = "kit.key"\n')
    assert {each.id for each in found} >= set(CHOSEN)
    for section in (section for each in found for section in each.sections):
        assert section.outcome is Outcome.PASS, "\n".join(step.words for step in section.steps)


@pytest.mark.parametrize("shown", ["", 'certificate = "unknown.pem"\nkey = "unknown.key"\n'])
def test_nothing_passes_with_none_or_another(nist: Path, authority: Authority, endpoints: str, shown: str) -> None:
    """But for the feed, which believes every certificate of the authority (`mllp_tls_ca`)."""
    found = {each.id: each for each in run(nist, authority, endpoints, shown)}
    outcomes = {section.outcome for each in CHOSEN for section in found[each].sections if section.name != "patientFeed"}
    assert outcomes
    assert Outcome.PASS not in outcomes
