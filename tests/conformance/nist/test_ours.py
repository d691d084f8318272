"""Our own server under the toolkit's test plans, over real sockets, on both engines."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from peers import imageshare
from peers.small_registry import unused_port

from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, run_tests
from conformance.nist.target import target_of
from conformance.nist.testkit import Testkit
from server.records.installation import installation
from server.settings import load
from server.store.db import Database

REGISTRY = [
    "11897", "11898", "11901", "11903", "11905", "11907", "11909", "11990", "11991", "11992", "11994", "11996", "11998", "12000", "12002",
    "12084", "12326", "12364", "12370", "15801", "15803", "20000", "20001",
]  # fmt: skip
REPOSITORY = ["11966", "11979", "12021", "12369"]
NOT_RUN_OF = {"11897": {"no_matching_classcode", "classcode_two", "refid"}}
"""Sections that the given material does not allow: see `conformance.nist.preparing`."""


IMAGES, STUDY = "IDS-DEPT002-a", "1.3.6.1.4.1.21367.201599.1.201604020954059"
REPOSITORY_OF_REQUESTS = "1.3.6.1.4.1.21367.13.80.110"


@pytest.fixture(scope="module")
def results(nist: Path, module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TestResult]]:
    folder, port = tmp_path_factory.mktemp("nist"), unused_port()
    settings = {"mllp_port": port, "affinity_domain_codes": nist / "environment" / "codes.xml"}
    with imageshare.running(folder / "data", module_database_url, **settings) as server:
        target = target_of(
            {
                "registry": {"url": f"{server.http}/xds/registry"},
                "repository": {"url": f"{server.http}/xds/repository"},
                "feed": {"host": "127.0.0.1", "port": port},
            }
        )
        kit = Testkit(nist / "testkit")
        chosen = kit.chosen([*REGISTRY, *REPOSITORY])
        found = run_tests(kit, target, chosen, Outputs(schemas=nist / "schema" / "v3"))
        yield {each.id: each for each in found}


@pytest.mark.parametrize("test", [*REGISTRY, *REPOSITORY])
def test_registry_and_repository(test: str, results: dict[str, TestResult]) -> None:
    for section in results[test].sections:
        wanted = Outcome.NOT_RUN if section.name in NOT_RUN_OF.get(test, ()) else Outcome.PASS
        assert section.outcome is wanted, "\n".join(step.words for step in section.steps)


def published(server: imageshare.Running, study: str) -> bool:
    asked = httpx2.get(
        f"{server.http}/dicomweb/studies",
        params={"StudyInstanceUID": study},
        headers={"Authorization": f"Bearer {server.token()}"},
    )
    return asked.status_code == 200 and bool(asked.json())


def test_imaging_source(nist: Path, tmp_path: Path) -> None:
    """The toolkit's images are imported as a person would, and its requests name our Retrieve Location UID."""
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "import",
        "--data",
        str(tmp_path / "data"),
        str(nist / "ImageCache" / "std" / IMAGES / "images"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with imageshare.running(tmp_path / "data") as server:
        until = time.monotonic() + 60
        while not published(server, STUDY) and time.monotonic() < until:
            time.sleep(0.1)
        database = Database(load(data=tmp_path / "data").database)
        location = installation(database).imaging_source
        database.close()
        replaced = {f"{REPOSITORY_OF_REQUESTS}.999": "1.2.3.999", REPOSITORY_OF_REQUESTS: location}
        target = target_of({"imaging_source": {"url": f"{server.http}/xds/imaging-source"}, "replace": replaced})
        kit = Testkit(nist / "testkit")
        [result] = run_tests(kit, target, kit.chosen(["ids_4812"]), Outputs())
    assert result.outcome is Outcome.PASS, [step.words for section in result.sections for step in section.steps]
