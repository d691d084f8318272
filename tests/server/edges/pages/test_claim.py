"""An access code and a date of birth, and the images are there; then an account. Who guesses gets nowhere, and a second one is told of."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.together import together
from peers.visitor import Pages, Visitor, pages

from profiles import access_code
from server.access import codes
from server.access.codes import TRIES, AccessCode
from server.access.people import accounts
from server.errors import TooManyAttempts
from server.records import trail
from server.store import jobs
from server.store.db import micros
from server.work.portal.claiming import ALERT, Asking, CodeRefused, CodeTaken

DAY = 86_400_000_000
BORN = {"day": "29", "month": "2", "year": "1960"}


def issued(town: Pages, patient: str = "A", studies: Any = None, days: int = 30) -> tuple[AccessCode, str]:
    site = town.site
    with site.node.database.write() as connection:
        return codes.issue(
            connection, site.node.installation.cursor_key, patient=site.patients[patient], studies=studies, creator="staff",
            expires=micros() + days * DAY,
        )  # fmt: skip


def claimed(town: Pages, code: str, visitor: Visitor | None = None, **born: str) -> Visitor:
    visitor = visitor or town.visitor()
    visitor.get("/claim")
    visitor.press("Show my images", code=code, **{**BORN, **born})
    return visitor


def state(town: Pages, code: AccessCode) -> AccessCode:
    with town.site.node.database.read() as connection:
        found = codes.find(connection, code.id)
    assert found is not None
    return found


def events(town: Pages, said: str) -> list[dict[str, Any]]:
    town.site.node.strangers.flush()
    with town.site.node.database.read() as connection:
        found = [orjson.loads(each.body) for each in trail.events(connection, limit=5000)]
    return [each for each in found if said in each.get("outcomeDesc", "")]


def pictures(visitor: Visitor) -> list[str]:
    return [str(each) for each in visitor.tree.xpath("//img/@src")]


def test_code_and_birth_date_show_the_images_at_once(town: Pages) -> None:
    code, text = issued(town)
    visitor = claimed(town, f" {text.lower().replace('-', ' ')} ")
    assert visitor.page.status_code == 200
    assert "Your images" in visitor.text
    assert len(visitor.tree.xpath("//li[@class='study']")) == 2, "both of her studies, and no others"
    shot = visitor.get(pictures(visitor)[0])
    assert (shot.status_code, shot.headers["content-type"], shot.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert state(town, code).state(micros()) == "claimed"
    assert events(town, "an access code was claimed")


def test_a_code_for_single_studies_shows_those(town: Pages) -> None:
    _, text = issued(town, studies=town.site.studies["A"][:1])
    visitor = claimed(town, text)
    assert len(visitor.tree.xpath("//li[@class='study']")) == 1


def test_whatever_is_wrong_is_told_in_the_same_words(town: Pages) -> None:
    code, text = issued(town)
    told = set()
    for given, born in (
        (text, {"year": "1971"}),
        (access_code.written(access_code.of(7)), {}),
        ("not a code", {}),
        (text[:-1] + "!", {}),
    ):
        visitor = claimed(town, given, **born)
        assert visitor.page.status_code == 403
        told.add(re.sub(r"value=\"[^\"]*\"", "", visitor.tree.xpath("string(//p[contains(@class, 'bad')])")))
    assert len(told) == 1
    assert state(town, code).tries == 1, "the one that was of this code"
    assert events(town, "an access code was refused")
    assert "Alba" not in told.pop()


def test_wrong_dates_close_the_code_for_good(town: Pages) -> None:
    code, text = issued(town)
    for year in range(1900, 1900 + TRIES):
        assert claimed(town, text, year=str(year)).page.status_code == 403
    assert claimed(town, text).page.status_code == 403, "even with the right one"
    assert state(town, code).state(micros()) == "locked"


def test_200_guesses_at_once_are_not_more_than_the_cap(town: Pages) -> None:
    code, text = issued(town)
    site, key = town.site, town.site.node.installation.cursor_key

    def guess(number: int) -> None:
        with site.node.database.write() as connection:
            assert codes.look(connection, key, text, f"19{number % 100:02}0303", "somebody").outcome == "nothing"

    assert together(*[partial(guess, number) for number in range(200)]) == []
    assert state(town, code).tries == TRIES


def test_a_code_of_ones_own_does_not_help_to_guess_others(tmp_path: Path) -> None:
    """Whatever is guessed between two right tries counts on: twenty in a quarter of an hour, of one network."""
    with pages(tmp_path, sign_in_failures_per_address=100) as town:
        _, text = issued(town)
        claiming, asking = town.site.node.claiming, Asking("browser", "192.0.2.1")
        for _ in range(20):
            claiming.claim(text, "19600229", asking)
            with pytest.raises(CodeRefused):
                claiming.claim(access_code.written(access_code.of(7)), "19600229", asking)
        with pytest.raises(TooManyAttempts):
            claiming.claim(text, "19600229", asking)


def test_one_of_many_who_claim_at_once_is_first(town: Pages) -> None:
    code, text = issued(town)
    claiming = town.site.node.claiming

    refused = together(*[partial(claiming.claim, text, "19600229", Asking(f"browser-{each}", "192.0.2.1")) for each in range(10)])
    assert [type(each) for each in refused] == [CodeTaken] * 9
    assert state(town, code).alerts == 9


def test_a_second_one_is_an_alert_and_no_access(town: Pages) -> None:
    code, text = issued(town)
    claimed(town, text)
    other = claimed(town, text)
    assert other.page.status_code == 409
    assert "This code was used already" in other.text
    assert other.get("/images").url.path == "/claim", "there is nothing for this browser"
    assert state(town, code).alerts == 1
    assert events(town, "was tried again")
    with town.site.node.database.write() as connection:
        waiting = connection.exec_driver_sql("SELECT key FROM job WHERE kind = 'code-alert'").scalars().all()
    assert any(each.startswith(code.id) for each in waiting)
    jobs.claim(town.site.node.database, ALERT, limit=100)


def test_the_same_browser_comes_back(town: Pages) -> None:
    _, text = issued(town)
    visitor = claimed(town, text)
    assert visitor.get("/images").status_code == 200
    again = claimed(town, text, visitor)
    assert "Your images" in again.text


def test_an_account_is_made_with_a_code_by_e_mail(town: Pages) -> None:
    code, text = issued(town)
    visitor = claimed(town, text)
    visitor.get("/claim/account")
    visitor.press("Send me the code", email="new.person@example.org")
    visitor.press("Sign in", code=town.code())
    visitor.press("Keep them here")
    assert "The images are in your account now" in visitor.text
    account = state(town, code).account
    assert account
    with town.site.node.database.read() as connection:
        found = accounts.find(connection, account)
        assert found is not None
        assert (found.name, found.fhir_user) == ("Anna Alba", f"Patient/{town.site.patients['A']}")
    fresh = town.visitor()
    fresh.get("/sign-in")
    assert fresh.get("/images").url.path == "/claim", "signed out: nothing"


def test_who_is_signed_in_adds_the_studies_of_another_hospital_by_the_same_act(town: Pages) -> None:
    code, text = issued(town, "B")
    visitor = town.signed_in("patient")
    visitor.get("/claim")
    visitor.press("Show my images", code=text, **BORN)
    assert len(visitor.tree.xpath("//li[@class='study']")) == 3
    assert state(town, code).account == town.site.people["patient"].id
    with town.site.node.database.write() as connection:
        accounts.disown(connection, town.site.people["patient"].id, town.site.patients["B"])


@pytest.mark.parametrize("how", ["ended", "expired"])
def test_what_is_over_says_so_to_who_knows_it(town: Pages, how: str) -> None:
    code, text = issued(town, days=-1 if how == "expired" else 30)
    if how == "ended":
        with town.site.node.database.write() as connection:
            codes.end(connection, code.id, "ended by staff")
    visitor = claimed(town, text)
    assert visitor.page.status_code == 403
    assert "This code is over" in visitor.text


def test_ending_a_code_ends_what_it_showed(town: Pages) -> None:
    code, text = issued(town)
    visitor = claimed(town, text)
    shot = pictures(visitor)[0]
    with town.site.node.database.write() as connection:
        codes.end(connection, code.id, "ended by staff")
    assert visitor.get("/images").url.path == "/claim"
    assert visitor.get(shot).status_code in (401, 403, 404)


def test_a_device_that_is_not_ones_own_forgets(town: Pages) -> None:
    _, text = issued(town)
    visitor = claimed(town, text)
    visitor.press("This is not my device: forget my images here")
    assert visitor.get("/images").url.path == "/claim"


def test_the_code_is_nowhere_in_the_clear(town: Pages) -> None:
    _, text = issued(town)
    claimed(town, text)
    canonical = text.replace("-", "")
    with town.site.node.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM access_code").all()
    assert not any(canonical in str(each) or text in str(each) for each in rows)
    assert not any(canonical in str(each) for each in events(town, ""))
