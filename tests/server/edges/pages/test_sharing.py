"""Sharing by a link: opened by who has it, and the passcode, within what was chosen; told to the patient; ended at once, in every process."""

import re
from functools import partial
from urllib.parse import urlsplit

import orjson
import pytest
from peers.sharing import events, made, opened, share_of
from peers.together import together
from peers.visitor import Pages

from server.access.shares import TRIES
from server.errors import NotFound
from server.store.db import micros
from server.work.portal.sharing import Coming, PasscodeRefused
from server.worker import Worker

COMING = Coming("Dr Berg", "Chrome on Windows", "192.0.2.7")


def test_a_physician_opens_a_link_with_its_passcode_and_the_patient_sees_it(town: Pages) -> None:
    patient, link, passcode = made(town)
    assert re.fullmatch(r"\d{3} \d{3}", passcode)
    doctor = opened(town, link, passcode.replace(" ", ""))
    assert doctor.page.status_code == 200
    assert doctor.tree.xpath("//canvas[@id='canvas']"), "the viewer, at once"
    assert doctor.tree.xpath("//img[@id='first']/@src")[0].startswith("data:image/jpeg")
    doctor.get(urlsplit(link).path + "/images")
    doctor.press("Send the note", note="Nothing to worry about")
    patient.get("/share")
    assert "Dr Berg" in patient.text
    assert "Nothing to worry about" in patient.text
    patient.get("/account/activity")
    assert "Dr Berg" in patient.text, "who looked is in the history, by name"
    (told,) = [each for each in events(town) if any(one["code"] == "disclose" for one in each.get("subtype", ()))][:1]
    assert any(agent.get("who", {}).get("reference") == f"Patient/{town.site.patients['A']}" for agent in told["agent"]), (
        "who allowed it"
    )
    Worker(town.site.node).once()
    assert "Dr Berg has opened images that you share" in town.letter()


def test_it_opens_its_studies_and_nothing_else(town: Pages) -> None:
    _, link, passcode = made(town)
    doctor = opened(town, link, passcode)
    found = orjson.loads(str(doctor.tree.xpath("//script[@id='viewer-config']/text()")[0]))
    assert [each["uid"] for each in found["studies"]] == list(share_of(town, link).studies)
    headers = {"Authorization": f"Bearer {found['token']}"}
    shared, other = (
        share_of(town, link).studies[0],
        next(each for each in town.site.studies["A"] if each not in share_of(town, link).studies),
    )
    assert doctor.http.get(f"/dicomweb/studies/{shared}/metadata", headers=headers).status_code == 200
    assert doctor.http.get(f"/dicomweb/studies/{other}/metadata", headers=headers).status_code in (403, 404)
    assert doctor.get("/images").url.path == "/claim"


@pytest.mark.parametrize("download", [[], ["yes"]])
def test_what_is_only_to_be_looked_at_leaves_in_no_form_as_objects(town: Pages, download: list[str]) -> None:
    """By the page's own token neither: what the viewer draws from is given, files are not."""
    _, link, passcode = made(town, download=download)
    found = orjson.loads(str(opened(town, link, passcode).tree.xpath("//script[@id='viewer-config']/text()")[0]))
    (study, *_) = share_of(town, link).studies
    http = town.visitor().http
    http.headers["Authorization"] = f"Bearer {found['token']}"
    (one, *_) = http.get(f"/dicomweb/studies/{study}/instances").json()
    series, instance = (one[tag]["Value"][0] for tag in ("0020000E", "00080018"))
    whole = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}"
    wado = f"/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}&contentType="
    looked = {
        path: http.get(path).status_code
        for path in (f"{whole}/metadata", f"{whole}/rendered", f"{whole}/frames/1", wado + "image/jpeg")
    }
    assert set(looked.values()) == {200}, looked
    taken = {
        (path, accept): http.get(path, headers={"Accept": accept}).status_code
        for path in (
            f"/dicomweb/studies/{study}",
            f"/dicomweb/studies/{study}/series/{series}",
            whole,
            wado + "application/dicom",
        )
        for accept in ("*/*", 'multipart/related; type="application/dicom"; transfer-syntax=*', "application/zip")
        if accept == "*/*"
        or (path.startswith(f"/dicomweb/studies/{study}") and not (path == whole and accept == "application/zip"))
    }
    assert set(taken.values()) == ({200} if download else {403}), taken
    if not download:
        assert "not to be downloaded" in http.get(whole).text


@pytest.mark.parametrize("wrong", ["secret", "id", "both"])
def test_a_wrong_link_says_nothing_of_the_share(town: Pages, wrong: str) -> None:
    _, link, _ = made(town, passcode=[])
    parts = urlsplit(link)
    path = "/share/AAAAAAAAAAAAAAAAAAAAAA" if wrong != "secret" else parts.path
    secret = parts.fragment if wrong == "id" else "B" * 43
    visitor = opened(town, f"{path}#{secret}")
    assert visitor.page.status_code == 404
    assert "This link opens nothing any more" in visitor.text


def test_to_look_at_the_page_opens_nothing(town: Pages) -> None:
    """Mail scanners do, with GET and HEAD."""
    _, link, _ = made(town, passcode=[])
    http, path = town.visitor().http, urlsplit(link).path
    pages = {
        re.sub(rb'csrf" value="[^"]*"|share/[A-Za-z0-9_-]{22}', b"", http.get(each).content)
        for each in (path, "/share/" + "A" * 22)
    }
    assert len(pages) == 1, "the same whether there is one"
    assert http.head(path).status_code in (200, 405)
    assert share_of(town, link).openings == 0


def test_wrong_passcodes_close_it_for_good(town: Pages) -> None:
    patient, link, passcode = made(town)
    for left in range(TRIES - 1, -1, -1):
        visitor = opened(town, link, "000 000" if passcode != "000 000" else "111 111")
        assert visitor.page.status_code == 403, left
    assert opened(town, link, passcode).page.status_code == 404
    patient.get("/share")
    assert "It was closed after too many wrong passcodes" in patient.text


def test_guesses_at_once_are_not_more_than_the_cap(town: Pages) -> None:
    _, link, passcode = made(town)
    parts = urlsplit(link)
    sharing, id_ = town.site.node.sharing, parts.path.rpartition("/")[2]
    guesses = [f"{number:06}" for number in range(50) if f"{number:06}" != passcode.replace(" ", "")]
    refused = together(*[partial(sharing.open, id_, parts.fragment, each, COMING) for each in guesses])
    assert len(refused) == len(guesses)
    assert sum(isinstance(each, PasscodeRefused) for each in refused) == TRIES, "those that were looked at"
    with pytest.raises(NotFound):
        sharing.open(id_, parts.fragment, passcode.replace(" ", ""), COMING)


def test_openings_are_counted_exactly(town: Pages) -> None:
    _, link, _ = made(town, openings="5", passcode=[])
    parts = urlsplit(link)
    refused = together(
        *[partial(town.site.node.sharing.open, parts.path.rpartition("/")[2], parts.fragment, "", COMING) for _ in range(50)]
    )
    assert [type(each) for each in refused] == [NotFound] * 45
    assert share_of(town, link).openings == 5


def test_a_reload_is_no_other_opening(town: Pages) -> None:
    _, link, _ = made(town, openings="1", passcode=[])
    doctor = opened(town, link)
    assert doctor.get(urlsplit(link).path + "/view").status_code == 200
    assert share_of(town, link).openings == 1
    assert opened(town, link).page.status_code == 404, "for another browser it is used up"


def test_what_is_stopped_shows_nothing_from_the_next_request_on(town: Pages) -> None:
    patient, link, _ = made(town, passcode=[])
    doctor = opened(town, link)
    found = orjson.loads(str(doctor.tree.xpath("//script[@id='viewer-config']/text()")[0]))
    study = f"/dicomweb/studies/{share_of(town, link).studies[0]}/metadata"
    headers = {"Authorization": f"Bearer {found['token']}"}
    cached = doctor.http.get(study, headers=headers)
    assert cached.status_code == 200
    patient.get("/share")
    patient.page = patient.http.post(
        f"{urlsplit(link).path}/stop",
        data={"csrf": patient.tree.xpath("//input[@name='csrf']/@value")[0]},
        headers={"Origin": town.site.base},
    )
    assert patient.page.status_code == 303
    again = doctor.http.get(study, headers={**headers, "If-None-Match": cached.headers.get("etag", "")})
    assert again.status_code == 401, "not even that it is still the same"
    for path in ("view", "images"):
        assert doctor.get(f"{urlsplit(link).path}/{path}").status_code == 404
    assert doctor.http.post("/viewer/token", data={"handle": found["handle"]}).status_code == 401
    assert opened(town, link).page.status_code == 404


def test_nobody_stops_or_reads_what_another_shares(town: Pages) -> None:
    _, link, _ = made(town, passcode=[])
    other = town.signed_in("other", "/share")
    csrf = other.http.get("/account").text.partition('name="csrf" value="')[2].partition('"')[0]
    for what in ("stop", "link"):
        answer = other.http.post(f"{urlsplit(link).path}/{what}", data={"csrf": csrf}, headers={"Origin": town.site.base})
        assert answer.status_code == 404
    assert share_of(town, link).state(micros()) == "open"


def test_what_is_not_ones_own_cannot_be_shared(town: Pages) -> None:
    with town.site.node.database.read() as connection:
        theirs = connection.exec_driver_sql(f"SELECT id FROM study WHERE uid = '{town.site.studies['B'][0]}'").scalar_one()
    visitor = town.signed_in("patient", "/share/new")
    visitor.press("Make the link", study=[str(theirs)])
    assert visitor.page.status_code == 400


def test_the_link_goes_by_e_mail_without_the_passcode(town: Pages) -> None:
    _, link, passcode = made(town, email="dr.berg@example.org", message="As we said on the telephone")
    Worker(town.site.node).once()
    letter = town.letter()
    assert link in letter
    assert "As we said on the telephone" in letter
    assert passcode.replace(" ", "") not in letter.replace(" ", "")


def test_secrets_are_kept_as_hashes_or_sealed(town: Pages) -> None:
    _, link, passcode = made(town)
    with town.site.node.database.read() as connection:
        rows = str(connection.exec_driver_sql("SELECT * FROM share").all())
    assert urlsplit(link).fragment not in rows
    assert passcode.replace(" ", "") not in rows
    assert not any(urlsplit(link).fragment in str(each) for each in events(town))
