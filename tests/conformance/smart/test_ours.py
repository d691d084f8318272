"""Our own server under the kit, in each of its shapes, over a real socket."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import listener
from peers.faulty_smart.site import faulty
from peers.people import PASSWORD
from peers.requires import required
from peers.smart_site import listening
from peers.smart_target import JWKS, REGISTRATION, separate, smart_target
from pydantic import SecretStr

from conformance.smart import reports
from conformance.smart.cases import AREAS, all_cases
from conformance.smart.kit import Outcome, Result, chosen, run
from conformance.smart.requirements import requirements, unseen
from conformance.smart.system import System
from conformance.smart.target import Target
from conformance.smart.wire import Wire
from server.settings import Settings


def _results(target: Target, only: list[str]) -> list[Result]:
    with Wire() as wire:
        return run(chosen(all_cases(), only), System(target, wire))


def _all_passed(results: list[Result]) -> None:
    bad = [each for each in results if each.outcome in reports.BAD]
    assert not bad, reports.as_text(bad)


def _skipped(results: list[Result]) -> list[str]:
    return [f"{each.case.id}: {each.words}" for each in results if each.outcome is Outcome.SKIP]


@pytest.fixture(scope="module")
def one_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Result]]:
    with (
        listener.listening(listener.answer(json.dumps(JWKS).encode())) as keys,
        listening(tmp_path_factory.mktemp("site"), fetch_allowed_hosts=[f"127.0.0.1:{keys.port}"], **_SETTINGS) as site,
    ):
        yield _results(smart_target(site, f"http://127.0.0.1:{keys.port}/jwks"), [])


_SETTINGS: dict[str, Any] = {
    "client_registration": "token",
    "client_registration_token": SecretStr(REGISTRATION),
}


@pytest.mark.parametrize("area", AREAS)
def test_one_system_passes(one_system: list[Result], area: str) -> None:
    _all_passed([each for each in one_system if each.case.area == area])


def test_little_is_skipped_of_one_system(one_system: list[Result]) -> None:
    assert len(_skipped(one_system)) <= 33, _skipped(one_system)


def test_no_report_has_a_secret_of_ours(one_system: list[Result], tmp_path: Path) -> None:
    whole = "".join(each.read_text() for each in reports.write(one_system, tmp_path, "ours", "today"))
    for secret in (PASSWORD, PASSWORD.replace(" ", "+"), REGISTRATION):
        assert secret not in whole
    assert not re.search(r"\beyJ[\w-]+\.", whole), "a JWT"


def test_every_binding_requirement_is_named_by_something_that_passes(one_system: list[Result]) -> None:
    passed = {id_ for each in one_system if each.outcome is Outcome.PASS for id_ in each.case.requirements}
    marked = {each.id for each in required()}
    left = {each.id for each in requirements().values() if each.binding} - passed - marked - {*unseen()}
    assert left <= _IN_FRONT, [f"{each}: {requirements()[each].words}" for each in sorted(left)]


_IN_FRONT = {231}
"""TLS is in front of the server that the tests start: the kit looks for it at an https URL."""


def test_a_separate_imaging_server_passes(tmp_path: Path) -> None:
    with faulty() as (ehr, state), separate(tmp_path, ehr, state.base) as target:
        results = _results(target, _IMAGING)
    _all_passed(results)
    assert len(_skipped(results)) <= 45, _skipped(results)


_IMAGING = [each for each in AREAS if each.startswith("imaging")]


@pytest.mark.skipif("imaging_capability_urls" not in Settings.model_fields, reason="there are no capability URLs yet")
def test_with_capability_urls_it_passes(tmp_path: Path) -> None:
    with listening(tmp_path, imaging_capability_urls=True, **_SETTINGS) as site:
        results = _results(smart_target(site), _IMAGING)
    _all_passed(results)
    capability = [each for each in results if each.case.area == "imaging_capability"]
    assert sum(each.outcome is Outcome.PASS for each in capability) >= 6, _skipped(capability)
