"""Break-glass (IHE PCF section 53.4), from the practitioner's page to the app's requests, the trail and the e-mails."""

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from peers.smart_site import BACK, Pkce
from peers.visitor import Pages, Visitor, pages

from server.access.people import accounts, proxies
from server.records import resources
from server.store.db import micros
from server.worker import Worker

ON_BOTH_ENGINES = True
SCOPE = "launch/patient patient/*.rs user/*.rs offline_access"
REASON = "unconscious, no time to ask"
OFFICER = "officer@example.org"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Pages]:
    """All of A and of B is closed to practitioners."""
    with pages(tmp_path, privacy_officer=OFFICER) as opened:
        for name, id_ in opened.site.patients.items():
            _close(opened, name, id_)
        yield opened


def _close(town: Pages, name: str, id_: str) -> None:
    consent = {
        "resourceType": "Consent", "id": f"c{name}", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{id_}"}, "policy": [{"uri": "urn:policy"}], "provision": {"type": "deny"},
    }  # fmt: skip
    script = town.site.node.tokens.issue(client="script", scope="system/*.cruds")
    answer = town.site.http.put(f"/fhir/Consent/c{name}", json=consent, headers={"Authorization": f"Bearer {script}"})
    assert answer.status_code == 201, answer.text


def _asked(town: Pages, pkce: Pkce | None = None, who: str = "practitioner", scope: str = SCOPE, **more: str) -> Visitor:
    visitor = town.visitor()
    visitor.get("/oauth/authorize", **town.site.asking(scope=scope, pkce=pkce, **more))
    visitor.sign_in(f"{who}@example.org")
    return visitor


def _declared(town: Pages, pkce: Pkce | None = None) -> Visitor:
    """At the last page, for A, with the reason given."""
    visitor = _asked(town, pkce)
    visitor.press("This is an emergency")
    visitor.press("Open the record", emergency=REASON)
    visitor.press("Search", search="alba")
    visitor.press("Continue", patient=town.site.patients["A"])
    return visitor


def _broken(town: Pages) -> dict[str, Any]:
    """The token response."""
    pkce = Pkce()
    visitor = _declared(town, pkce)
    visitor.press("Allow")
    assert visitor.onward.startswith(BACK), visitor.text
    answer = town.site.redeem(parse_qs(urlsplit(visitor.onward).query)["code"][0], pkce)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _mails(town: Pages) -> list[EmailMessage]:
    """All that were sent, when there is nothing left to do."""
    worker = Worker(town.site.node)
    while worker.once():
        pass
    files = (town.site.node.settings.data / "mail").glob("*.eml")
    return [message_from_bytes(each.read_bytes(), policy=default) for each in files]


def _subtypes(event: dict[str, Any]) -> list[str]:
    return [each["code"] for each in event["subtype"]]


def _purposes(event: dict[str, Any]) -> set[str]:
    return {each["coding"][0]["code"] for agent in event["agent"] for each in agent.get("purposeOfUse", ())}


def _doors(town: Pages, patient: str) -> list[str]:
    (uid, *_) = town.site.studies[patient]
    return [f"/fhir/Patient/{town.site.patients[patient]}", f"/dicomweb/studies/{uid}", f"/dicomweb/studies/{uid}/metadata"]


def _statuses(town: Pages, token: str, patient: str) -> set[int]:
    answers = (town.site.http.get(path, headers={"Authorization": f"Bearer {token}"}) for path in _doors(town, patient))
    return {answer.status_code for answer in answers}


def test_the_glass_is_broken_for_one_patient_one_app_and_a_short_time(town: Pages) -> None:
    told = _broken(town)
    assert told["patient"] == town.site.patients["A"]
    assert "refresh_token" not in told
    assert "offline_access" not in told["scope"].split()
    assert told["expires_in"] <= 3600
    assert _statuses(town, told["access_token"], "A") == {200}
    assert _statuses(town, told["access_token"], "B") == {404}
    grant = town.site.node.tokens.decide(told["access_token"]).grant
    (held,) = [each for each in town.site.node.authorizing.connected(town.site.people["practitioner"]) if each.grant == grant]
    assert held.expires - micros() < 3700 * 1_000_000
    other = town.site.tokens("public", SCOPE, "practitioner", patient=town.site.patients["A"])["access_token"]
    assert _statuses(town, other, "A") == {404}


def test_it_is_in_the_trail_and_so_is_all_that_was_looked_at(town: Pages) -> None:
    told = _broken(town)
    (begun,) = [event for event in town.site.events() if _subtypes(event) == ["110127"]]
    assert REASON in str(begun["entity"])
    assert _purposes(begun) == {"BTG"}
    assert f"Patient/{town.site.patients['A']}" in str(begun["entity"])
    (shown, *_) = [event for event in town.site.events() if "choice of a patient" in str(event)]
    assert _purposes(shown) == {"BTG"}
    assert REASON in str(shown["entity"])
    before = len(town.site.events())
    assert _statuses(town, told["access_token"], "A") == {200}
    since = town.site.events()[:-before]
    assert len(since) == len(_doors(town, "A"))
    assert [_purposes(event) for event in since] == [{"BTG"}] * len(since)


def test_the_patient_reads_who_it_was_and_why(town: Pages) -> None:
    told = _broken(town)
    assert _statuses(town, told["access_token"], "A") == {200}
    own = town.site.tokens("public", "patient/*.rs", "patient")["access_token"]
    history = town.site.fhir(f"Patient/{town.site.patients['A']}/$access-history?_count=100", own)
    assert history.status_code == 200
    assert "began emergency access" in history.text
    assert "emergency access" in town.signed_in("patient", "/account/activity").text


def test_the_patient_who_acts_for_her_and_the_privacy_officer_are_told(town: Pages) -> None:
    _broken(town)
    found = _mails(town)
    assert sorted(each["To"] for each in found) == [OFFICER, "patient@example.org", "proxy@example.org"]
    for each in found:
        said = f"{each['Subject']} {each.get_content()}"
        assert not any(secret in said for secret in ("Alba", "Anna", town.site.patients["A"], REASON, "Practitioner"))
    assert all("/account/activity" in each.get_content() for each in found if each["To"] != OFFICER)


def test_they_are_told_of_what_was_shown_though_nothing_was_allowed_then(town: Pages) -> None:
    """Who looks, and leaves or does not allow it, has looked."""
    _declared(town).press("Don’t allow")
    assert sorted(each["To"] for each in _mails(town)) == [OFFICER, "patient@example.org", "proxy@example.org"]


def test_of_names_that_were_searched_the_privacy_officer_is_told_and_the_patients_read_of_it(town: Pages) -> None:
    visitor = _asked(town)
    visitor.press("This is an emergency")
    visitor.press("Open the record", emergency=REASON)
    assert _mails(town) == []
    visitor.press("Search", search="alba")
    visitor.press("Search", search="alba")
    (told,) = _mails(town)
    assert told["To"] == OFFICER
    assert "emergency access" in town.signed_in("patient", "/account/activity").text


def test_the_privacy_officer_finds_in_the_trail_what_the_e_mail_is_about(town: Pages) -> None:
    _broken(town)
    (told,) = [each for each in _mails(town) if each["To"] == OFFICER]
    (named,) = [line.strip() for line in told.get_content().splitlines() if line.startswith("    ")]
    found = [event for event in town.site.events() if named in orjson.dumps(event).decode()]
    assert {code for event in found for code in _subtypes(event)} == {"110127", "110112"}
    assert all(_purposes(event) == {"BTG"} and REASON in str(event["entity"]) for event in found)


def test_a_parent_from_whom_the_child_keeps_something_is_not_told(town: Pages) -> None:
    patient = town.site.patients["A"]
    with town.site.node.database.write() as connection:
        parent = accounts.add(connection, kind="proxy", email="parent@example.org", fhir_user="RelatedPerson/parent")
        proxies.begin(connection, account=parent.id, patient=patient, relation="parent", begins=micros() - 1)
        actor = {"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "RelatedPerson/parent"}}
        consent = {
            "resourceType": "Consent", "id": "named", "status": "active", "patient": {"reference": f"Patient/{patient}"},
            "provision": {"type": "permit", "provision": [{"type": "deny", "actor": [actor]}]},
        }  # fmt: skip
        resources.put(connection, consent)
    _broken(town)
    assert "patient@example.org" in (to := [each["To"] for each in _mails(town)])
    assert "parent@example.org" not in to


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_it_needs_a_reason(town: Pages, reason: str) -> None:
    visitor = _asked(town)
    visitor.press("This is an emergency")
    assert visitor.press("Open the record", emergency=reason).status_code == 400
    assert "reason" in visitor.tree.xpath("string(//*[@class='fault'])")
    assert not any(_subtypes(event) == ["110127"] for event in town.site.events())


def test_a_launch_for_a_patient_who_is_closed_asks_whether_it_is_an_emergency(town: Pages) -> None:
    handle = town.site.launch(patient=town.site.patients["A"]).json()["launch"]
    pkce = Pkce()
    visitor = _asked(town, pkce, scope="launch patient/*.rs", launch=handle)
    assert visitor.page.status_code == 403
    assert "Is this an emergency?" in visitor.text
    assert "Alba" not in visitor.text
    assert "Whose record it is you see when you have given the reason" in visitor.text
    visitor.press("Open the record", emergency=REASON)
    assert "May A public app see the records of Anna Alba?" in visitor.text
    assert REASON in visitor.text
    visitor.press("Allow")
    token = town.site.redeem(parse_qs(urlsplit(visitor.onward).query)["code"][0], pkce).json()["access_token"]
    assert _statuses(town, token, "A") == {200}


def test_without_a_patient_it_says_that_one_is_chosen_next(town: Pages) -> None:
    visitor = _asked(town)
    visitor.press("This is an emergency")
    assert "You choose the patient next" in visitor.text


def test_it_says_whose_record_is_opened_and_keeps_the_studies_that_were_chosen(tmp_path: Path) -> None:
    with pages(tmp_path, privacy_officer=OFFICER) as town:
        visitor = _asked(town, scope=f"{SCOPE} launch/imagingstudy")
        visitor.press("Search", search="alba")
        visitor.press("Continue", patient=town.site.patients["A"])
        ids = visitor.tree.xpath("//input[@name='study']/@value")
        checked = "//input[@name='study'][@checked]/@value"
        visitor.press("This is an emergency", study=[ids[1]])
        assert "all of the record of Anna Alba" in visitor.text
        assert "number A" in visitor.text
        assert town.site.patients["A"] in str(town.site.events()[0]["entity"])
        visitor.press("Back")
        assert visitor.tree.xpath(checked) == [ids[1]]
        visitor.press("Continue", study=[ids[1]])
        visitor.press("This is an emergency")
        assert visitor.press("Open the record", emergency="").status_code == 400
        assert "Anna Alba" in visitor.text
        visitor.press("Open the record", emergency=REASON)
        assert visitor.tree.xpath(checked) == [ids[1]]


def test_of_a_closed_patient_whom_a_form_names_nothing_is_told_before(town: Pages) -> None:
    visitor = _asked(town)
    visitor.press("This is an emergency", form={"patient": town.site.patients["A"]})
    assert "Alba" not in visitor.text
    assert "number" not in visitor.text
    assert "Whose record it is" in visitor.text


def test_going_back_keeps_all_closed(town: Pages) -> None:
    visitor = _asked(town)
    visitor.press("This is an emergency")
    visitor.press("Back")
    visitor.press("Search", search="alba")
    assert "Nobody was found" in visitor.text


@pytest.mark.parametrize("who", ["patient", "proxy", "staff"])
def test_it_is_offered_to_practitioners_alone_and_forged_forms_are_refused_and_noted(town: Pages, who: str) -> None:
    visitor = _asked(town, who=who)
    assert "emergency" not in visitor.text
    target, values = visitor.filled("Don’t allow")
    for answer in ("emergency", "search", "allow"):
        form = {
            **values,
            "answer": answer,
            "emergency": REASON,
            "search": "alba",
            "patient": town.site.patients["A"],
            "shown": "0" * 64,
        }
        assert visitor.http.post(target, data=form, headers={"Origin": town.site.base}).status_code == 403, answer
    refused = [event for event in town.site.events() if _subtypes(event) == ["110127"]]
    assert {event["outcome"] for event in refused} == {"4"}
    assert town.site.people[who].id in orjson.dumps(refused).decode()


def test_what_was_not_declared_on_the_page_is_not_broken(town: Pages) -> None:
    """Abuse case 14: the reason is part of what the page showed."""
    visitor = _declared(town)
    for reason in ("another reason", ""):
        target, values = visitor.filled("Allow", emergency=reason)
        answer = visitor.http.post(target, data=values, headers={"Origin": town.site.base})
        assert answer.status_code in (400, 403), answer.text
    assert not any(_subtypes(event) == ["110127"] for event in town.site.events())


def test_a_token_that_consents_are_held_against_names_them_in_the_trail(town: Pages) -> None:
    """BALP AuthZconsent: of who may have something withheld, and of who has broken the glass; not of the patient and who acts for her."""
    patient = town.site.patients["A"]
    for who in ("patient", "proxy"):
        town.site.tokens("public", SCOPE, who, patient=patient)
    assert not any(_subtypes(event) == ["AuthZ-Consent"] for event in town.site.events())
    town.site.tokens("public", SCOPE, "practitioner", patient=patient)
    _broken(town)
    found = [event for event in town.site.events() if _subtypes(event) == ["AuthZ-Consent"]]
    assert [_purposes(event) for event in found] == [{"BTG"}, set()]
    for event in found:
        assert {"what": {"reference": "Consent/cA"}}.items() <= event["entity"][0].items()
        assert {"reference": f"Patient/{patient}"} in [each["what"] for each in event["entity"] if "what" in each]
        assert "policy" in str(event["agent"])
