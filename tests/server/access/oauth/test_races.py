"""What is good once, asked for fifty times at once, on both engines: codes, refresh tokens, assertions, launches, answers of a person."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.smart_site import ASSERTION_TYPE, Pkce, SmartSite, back, smart_site
from peers.together import together

TIMES = 50


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("races")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


def answers(ask: Callable[[], Any]) -> list[Any]:
    """What each of fifty at once is told."""
    told: list[Any] = []
    assert together(*[lambda: told.append(ask())] * TIMES) == []
    return told


def test_a_code(site: SmartSite) -> None:
    """Abuse case 11: one token at most; and as it came fifty times, even that one is worth nothing any more."""
    pkce = Pkce()
    code = site.code("public", "patient/*.rs offline_access", pkce=pkce)
    told = answers(lambda: site.redeem(code, pkce))
    good = [each.json() for each in told if each.status_code == 200]
    assert len(good) <= 1
    assert {each.json()["error"] for each in told if each.status_code != 200} == {"invalid_grant"}
    for each in good:
        assert site.fhir("ImagingStudy", each["access_token"]).status_code == 401
        assert site.refresh(each["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_refresh_token(site: SmartSite) -> None:
    """Abuse case 12: never two live branches. Within the grace all are given the one successor."""
    token = site.tokens("public", "patient/*.rs offline_access")["refresh_token"]
    told = answers(lambda: site.refresh(token))
    assert {each.status_code for each in told} == {200}, {each.text for each in told if each.status_code != 200}
    assert len({each.json()["refresh_token"] for each in told}) == 1
    assert len({each.json()["access_token"] for each in told}) == TIMES
    assert site.refresh(told[0].json()["refresh_token"]).status_code == 200


def test_an_assertion(site: SmartSite) -> None:
    form = {
        "grant_type": "client_credentials", "scope": "system/*.rs", "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": site.assertion("backend"),
    }  # fmt: skip
    told = answers(lambda: site.http.post("/oauth/token", data=form))
    assert [each.status_code for each in told].count(200) == 1
    assert {each.json()["error"] for each in told if each.status_code != 200} == {"invalid_client"}


def test_a_launch(site: SmartSite) -> None:
    handle = site.launch(patient=site.patients["A"]).json()["launch"]
    asked = site.asking(scope="launch patient/*.rs", launch=handle)
    told = [each.headers["location"] for each in answers(lambda: site.authorize(asked))]
    assert len([url for url in told if "/authorize/" in url]) == 1
    assert {back(url)["error"] for url in told if "/authorize/" not in url} == {"invalid_request"}


def test_an_answer_of_a_person(site: SmartSite) -> None:
    response, session = site.authorize(site.asking()), site.session("patient")
    codes: list[str] = []

    def agree() -> None:
        codes.append(site.agree(response, session=session)["code"])

    errors = together(*[agree] * TIMES)
    assert len(codes) == 1
    assert len(errors) == TIMES - 1
