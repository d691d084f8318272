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
from peers.xds import instance

from conformance.nist.results import Outcome, TestResult
from conformance.nist.running import Outputs, run_tests
from conformance.nist.target import target_of
from conformance.nist.testkit import Testkit
from server.records.installation import installation
from server.settings import load
from server.store.db import Database

REGISTRY = [
    "11897", "11898", "11901", "11903", "11905", "11907", "11909", "11990", "11991", "11992", "11994", "11996", "11998", "12000", "12002",
    "12084", "12318", "12326", "12361", "12364", "12370", "12374", "15801", "15803", "15804", "20000", "20001",
    "16101", "40000", "40001",
]  # fmt: skip
REPOSITORY = ["11966", "11979", "12021", "12369"]
OTHER_CODES = ["PnrXop", "idc_init"]
"""What submits codes that the toolkit's own codes.xml does not have: for a server without a code set."""
IMAGING_SOURCE = ["ids_4805", "ids_4808", "ids_4810", "ids_4812"]
NOT_RUN_OF = {"11897": {"no_matching_classcode", "classcode_two", "refid"}}
"""Sections that the given material does not allow: see `conformance.nist.preparing`."""


IMAGES, STUDY = "IDS-DEPT002-a", "1.3.6.1.4.1.21367.201599.1.201604020954059"
MISSING = {
    "IDS-DEPT001-a": (
        "1.3.6.1.4.1.21367.201599.1.201604020954048", "1.3.6.1.4.1.21367.201599.2.201604020954048",
        "1.3.6.1.4.1.21367.201599.3.201604020954048.1",
    ),
    "IDS-DEPT012-a": (
        "1.3.6.1.4.1.5962.1.2.5017.1166546115.14677", "1.3.6.1.4.1.5962.1.3.5017.1.1166546115.14677",
        "1.3.6.1.4.1.5962.1.9.5017.1.1166546115.14677",
    ),
}  # fmt: skip
"""Folders of images that the given material lacks: study, series and instance that the plans ask for."""
REPOSITORY_OF_REQUESTS = "1.3.6.1.4.1.21367.13.80.110"


@pytest.fixture(scope="module")
def results(nist: Path, module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TestResult]]:
    folder, port = tmp_path_factory.mktemp("nist"), unused_port()
    codes = nist / "environment" / "codes.xml"
    with imageshare.running(folder / "data", module_database_url, mllp_port=port, affinity_domain_codes=codes) as server:
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


@pytest.fixture(scope="module")
def images(nist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toolkit's ImageCache, and in their place such images as its plans name and the material does not have."""
    cache = tmp_path_factory.mktemp("ImageCache")
    (cache / "std").mkdir()
    (cache / "std" / IMAGES).symlink_to(nist / "ImageCache" / "std" / IMAGES)
    for name, uids in MISSING.items():
        folder = cache / "std" / name / "images"
        folder.mkdir(parents=True)
        (folder / "1.dcm").write_bytes(instance(name, *uids))
    return cache


@pytest.fixture(scope="module")
def imaging(nist: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TestResult]:
    """The images are imported as a person would, and the toolkit's requests name our Retrieve Location UID."""
    data = tmp_path_factory.mktemp("imaging") / "data"
    command = [sys.executable, "-m", "server.cli", "import", "--data", str(data), str(images / "std" / IMAGES / "images")]
    command += [str(images / "std" / name) for name in MISSING]
    subprocess.run(command, check=True, capture_output=True)
    port = unused_port()
    with imageshare.running(data, mllp_port=port) as server:
        until = time.monotonic() + 60
        while not all(published(server, study) for study in (STUDY, *(study for study, *_ in MISSING.values()))):
            assert time.monotonic() < until
            time.sleep(0.1)
        database = Database(load(data=data).database)
        location = installation(database).imaging_source
        database.close()
        target = target_of(
            {
                "registry": {"url": f"{server.http}/xds/registry"},
                "repository": {"url": f"{server.http}/xds/repository"},
                "imaging_source": {"url": f"{server.http}/xds/imaging-source", "wado": f"{server.http}/wado"},
                "feed": {"host": "127.0.0.1", "port": port},
                "images": str(images),
                "replace": {f"{REPOSITORY_OF_REQUESTS}.999": "1.2.3.999", REPOSITORY_OF_REQUESTS: location},
            }
        )
        kit = Testkit(nist / "testkit")
        return {each.id: each for each in run_tests(kit, target, kit.chosen([*IMAGING_SOURCE, *OTHER_CODES]), Outputs())}


@pytest.mark.parametrize("test", [*IMAGING_SOURCE, *OTHER_CODES])
def test_imaging_source(test: str, imaging: dict[str, TestResult]) -> None:
    result = imaging[test]
    assert result.outcome is Outcome.PASS, [step.words for section in result.sections for step in section.steps]
