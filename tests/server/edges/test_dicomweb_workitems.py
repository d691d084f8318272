"""UPS-RS over HTTP: PS3.18 section 11, transaction by transaction."""

import asyncio
import secrets
from collections.abc import Callable, Iterator

import pytest
from peers.dicomweb import Site, site
from peers.generated import Made, send
from peers.together import together
from peers.worklist import FILTERED, GLOBAL, Client, attribute, code, discontinued, performed, step

from profiles import dicom_xml
from server.edges.dicomweb import dataset_body
from server.records import workitems

ON_BOTH_ENGINES = True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("worklist") / "data", module_database_url) as made:
        send(made.node, Made(number=1), Made(study=2, patient="P2"))
        made.publish()
        yield made


@pytest.fixture
def client(server: Site) -> Client:
    return Client(server, server.token("system/Task.cruds"))


@pytest.fixture
def uid() -> str:
    return f"2.25.{secrets.randbits(100)}"


def test_a_workitem_is_created_and_retrieved(client: Client, uid: str) -> None:
    made = client.create(uid)
    assert (made.status_code, made.content) == (201, b"")
    assert made.headers["Location"] == f"{client.site.url}/workitems/{uid}"
    assert "Warning" not in made.headers
    item = client.read(uid)
    assert item["00080018"]["Value"] == [uid]
    assert item["00080016"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
    assert item["00741000"]["Value"] == ["SCHEDULED"]
    assert item["00741204"]["Value"] == ["Find nodules"]
    assert item["00741216"] == {"vr": "SQ"}
    assert list(item) == sorted(item)
    again = client.create(uid)
    assert again.status_code == 409


def test_the_uid_is_in_the_url_or_in_the_payload(client: Client, uid: str) -> None:
    assert client("POST", "", step(t00080018=attribute("UI", uid))).status_code == 201
    assert client.read(uid)
    assert client("POST", "?1.2.3", step(t00080018=attribute("UI", uid))).status_code == 400
    assert client("POST", "?workitem=" + uid + "9", step()).status_code == 201
    given = client("POST", "", step()).headers["Location"].rpartition("/")[2]
    assert given.startswith("2.25.")
    assert client("POST", "?not-a-uid", step()).status_code == 400


def test_what_is_filled_in_is_told(client: Client, uid: str) -> None:
    item = step()
    del item["00741202"]
    answer = client.create(uid, item)
    assert answer.status_code == 201
    assert answer.headers["Warning"] == f'299 {client.site.url} "The Workitem was created with modifications."'
    assert client.read(uid)["00741202"]["Value"] == ["Worklist"]


@pytest.mark.parametrize("tag", ["00741200", "00741204", "00404005", "00404041"])
def test_what_a_workitem_must_have(client: Client, uid: str, tag: str) -> None:
    item = step()
    del item[tag]
    answer = client.create(uid, item)
    assert answer.status_code == 400
    assert "must have a value (PS3.4 table CC.2.5-3)" in answer.json()["detail"]
    assert client("GET", f"/{uid}").status_code == 404


@pytest.mark.parametrize(
    "more",
    [
        {"t00741000": attribute("CS", "IN PROGRESS")},
        {"t00081195": attribute("UI", "1.2.3")},
        {"t00741216": performed()["00741216"]},
        {"t00741002": discontinued()["00741002"]},
        {"t00404034": attribute("SQ", {"00404037": attribute("PN", {"Alphabetic": "X"})})},
        {"t00080016": attribute("UI", "1.2.3")},
    ],
)
def test_what_a_workitem_may_not_have(client: Client, uid: str, more: dict[str, dict[str, object]]) -> None:
    assert client.create(uid, step(**more)).status_code == 400


@pytest.mark.parametrize(
    ("body", "type_", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b'["x"]', "application/dicom+json", 400),
        (b'{"PatientName": {"vr": "PN"}}', "application/dicom+json", 400),
        (b'{"00100020": {"vr": "LO", "Value": [{"a": 1}]}}', "application/dicom+json", 400),
        (b'{"00741002": {"vr": "LO", "Value": ["x"]}}', "application/dicom+json", 400),
        (b'{"00100020": {"vr": "LO", "Value": ["a\\u0000"]}}', "application/dicom+json", 400),
        (b'{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "\\u0000"}]}}', "application/dicom+json", 400),
        (b'{"00404021":{"vr":"SQ","Value":[' * 80 + b"{}" + b"]}}" * 80, "application/dicom+json", 400),
        (b"[" * 100_000, "application/dicom+json", 400),
        (b"<a/>", "application/dicom+xml", 400),
        (
            b'<NativeDicomModel><DicomAttribute tag="00091001" vr="LO"><Value number="1048576">x</Value></DicomAttribute></NativeDicomModel>',
            "application/dicom+xml",
            400,
        ),
        (b"x", "text/plain", 415),
        (b" " * (1 << 20) + b"{}", "application/dicom+json", 413),
        (b"--a\r\n\r\n", "multipart/related; boundary=a", 400),
    ],
)
def test_bodies_that_are_none(client: Client, body: bytes, type_: str, status: int) -> None:
    answer = client("POST", "?1.2", body, Content_Type=type_)
    assert answer.status_code == status
    if status == 400:
        assert "table CC.2.5-3" not in answer.json()["detail"], "it is the form that is refused"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "?1.2"), ("POST", "/1.2"), ("PUT", "/1.2/state"), ("POST", "/1.2/cancelrequest")]
)
def test_who_may_not_is_told_so_before_the_body_is_read(
    server: Site, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    def read(content_type: str, body: bytes) -> object:
        raise AssertionError("it was read")

    monkeypatch.setattr(dataset_body, "_read", read)
    for scope in ("system/ImagingStudy.cruds", "system/Task.rs"):
        assert Client(server, server.token(scope))(method, path, b"junk").status_code == 403


def test_a_body_is_not_read_on_the_event_loop(client: Client, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = dataset_body._read, list[bool]()

    def read(content_type: str, body: bytes) -> object:
        seen.append(asyncio._get_running_loop() is None)
        return real(content_type, body)

    monkeypatch.setattr(dataset_body, "_read", read)
    assert client.create(uid).status_code == 201
    assert seen == [True]


def test_xml_in_and_out(client: Client, uid: str) -> None:
    part = dicom_xml.render(step())
    body = b"--b\r\nContent-Type: application/dicom+xml\r\n\r\n" + part + b"\r\n--b--\r\n"
    made = client("POST", f"?{uid}", body, Content_Type='multipart/related; type="application/dicom+xml"; boundary=b')
    assert made.status_code == 201
    answer = client("GET", f"/{uid}", Accept='multipart/related; type="application/dicom+xml"')
    assert answer.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    document = answer.content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
    assert dicom_xml.parse(document) == client.read(uid)


def test_a_workitem_is_claimed_worked_on_and_completed(client: Client, uid: str) -> None:
    lock = uid + ".1"
    client.create(uid)
    assert client.update(uid, {"00741204": attribute("LO", "Other")}).status_code == 200
    assert client.state(uid, "IN PROGRESS", lock).status_code == 200
    assert client.update(uid, performed(), lock).status_code == 200
    assert "00081195" not in client.read(uid)
    assert client.state(uid, "COMPLETED", lock).status_code == 200
    item = client.read(uid)
    assert (item["00741000"]["Value"], item["00741204"]["Value"]) == (["COMPLETED"], ["Other"])
    again = client.state(uid, "COMPLETED", lock)
    assert (again.status_code, again.headers["Warning"].partition(" ")[2].partition(" ")[2]) == (
        200,
        '"The UPS is already in the requested state of COMPLETED."',
    )
    late = client.update(uid, performed(), lock)
    assert (late.status_code, "inconsistent with the current state" in late.headers["Warning"]) == (400, True)


def test_the_lock(client: Client, uid: str) -> None:
    client.create(uid)
    no_lock = client.state(uid, "IN PROGRESS", None)
    assert (no_lock.status_code, "The Transaction UID is missing." in no_lock.headers["Warning"]) == (400, True)
    unclaimed = client.update(uid, performed(), "1.2.3")
    assert (unclaimed.status_code, "did not reference a claimed" in unclaimed.headers["Warning"]) == (409, True)
    assert client.state(uid, "IN PROGRESS", "1.2.3").status_code == 200
    assert client.state(uid, "IN PROGRESS", "1.2.3").status_code == 409
    for answer in (client.state(uid, "IN PROGRESS", "1.2.4"), client.update(uid, performed(), "1.2.4")):
        assert (answer.status_code, "The Transaction UID is incorrect." in answer.headers["Warning"]) == (400, True)
    assert "The Transaction UID is missing." in client.update(uid, performed()).headers["Warning"]
    assert client.update(uid, {**performed(), "00081195": attribute("UI", "1.2.3")}).status_code == 200


def test_final_states_have_requirements(client: Client, uid: str) -> None:
    client.create(uid)
    client.state(uid, "IN PROGRESS", "1.2.3")
    for state in ("COMPLETED", "CANCELED"):
        answer = client.state(uid, state, "1.2.3")
        assert (answer.status_code, "final state" in answer.json()["detail"]) == (409, True)
    assert client.update(uid, discontinued(), "1.2.3").status_code == 200
    assert client.state(uid, "CANCELLED", "1.2.3").status_code == 200  # as PS3.18 spells it in one place
    (progress,) = client.read(uid)["00741002"]["Value"]
    assert progress["00404052"]["vr"] == "DT"


def test_what_may_not_be_set(client: Client, uid: str) -> None:
    client.create(uid)
    for changes in (
        {"00100020": attribute("LO", "P2")},
        {"00741000": attribute("CS", "COMPLETED")},
        {"00080018": attribute("UI", "1.2.3")},
        {"00741200": attribute("CS")},
    ):
        assert client.update(uid, changes).status_code == 400
    assert client.update(uid, client.read(uid)).status_code == 200, "what was retrieved can be sent back"


def test_a_cancellation_is_asked_for(client: Client, uid: str) -> None:
    client.create(uid)
    assert client("POST", f"/{uid}/cancelrequest", {"00741238": attribute("LT", "wrong patient")}).status_code == 202
    item = client.read(uid)
    assert item["00741000"]["Value"] == ["CANCELED"]
    (progress,) = item["00741002"]["Value"]
    assert progress["00741238"]["Value"] == ["wrong patient"]
    assert progress["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    again = client("POST", f"/{uid}/cancelrequest")
    assert (again.status_code, "already in the requested state of CANCELED" in again.headers["Warning"]) == (202, True)


def test_a_cancellation_of_what_is_done_or_being_done(client: Client, uid: str) -> None:
    client.create(uid)
    client.state(uid, "IN PROGRESS", "1.2.3")
    assert client("POST", f"/{uid}/cancelrequest").status_code == 202
    assert client.read(uid)["00741000"]["Value"] == ["IN PROGRESS"]
    client.update(uid, performed(), "1.2.3")
    client.state(uid, "COMPLETED", "1.2.3")
    assert client("POST", f"/{uid}/cancelrequest").status_code == 409


def test_of_two_that_claim_one_wins(client: Client, uid: str) -> None:
    client.create(uid)
    answers: list[tuple[str, int]] = []

    def claim(number: int) -> Callable[[], None]:
        return lambda: answers.append((f"1.2.{number}", client.state(uid, "IN PROGRESS", f"1.2.{number}").status_code))

    assert together(*(claim(number) for number in range(1, 7))) == []
    assert sorted(status for _, status in answers) == [200, *[400] * 5]
    winner = next(lock for lock, status in answers if status == 200)
    assert client.update(uid, performed(), winner).status_code == 200


def found(client: Client, query: str) -> list[str]:
    answer = client("GET", f"?{query}")
    assert answer.status_code in (200, 204), answer.text
    return [one["00080018"]["Value"][0] for one in answer.json()] if answer.status_code == 200 else []


def test_search(client: Client, uid: str) -> None:
    label = secrets.token_hex(6)
    starts = ("20270101080000", "20270101120000", "20270201080000+0100")
    for number, start in enumerate(starts, 1):
        more = {"t00404005": attribute("DT", start), "t00741202": attribute("LO", label)}
        if number == 2:
            more["t00404018"] = attribute("SQ", code("X1"))
        assert client.create(f"{uid}.{number}", step(f"S{number}", **more)).status_code == 201
    one, two, three = (f"{uid}.{number}" for number in (1, 2, 3))
    base = f"WorklistLabel={label}&"
    assert found(client, base) == [one, two, three]
    assert found(client, base + "limit=1&offset=1") == [two]
    assert "additional results" in client("GET", f"?{base}limit=2").headers["Warning"]
    assert found(client, base + "ScheduledProcedureStepStartDateTime=20270101") == [one, two]
    assert found(client, base + "00404005=20270101090000-") == [two, three]
    assert found(client, base + "00404005=20270201070000-20270201070000") == [three], "one hour east of Greenwich"
    assert found(client, base + "ScheduledWorkitemCodeSequence.CodeValue=X1&00404018.00080102=99TEST") == [two]
    assert found(client, base + "PatientID=S3") == [three]
    assert found(client, base + "PatientName=doe*") == [one, two, three]
    assert found(client, f"SOPInstanceUID={one},{three}") == [one, three]
    client.state(two, "IN PROGRESS", "1.2.3")
    assert found(client, base + "ProcedureStepState=IN%20PROGRESS") == [two]
    assert client("GET", f"?{base}PatientID=nobody").status_code == 204


def test_a_long_worklist_is_read_in_pages(client: Client, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workitems, "_PAGE", 2)
    label = secrets.token_hex(6)
    for number in range(7):
        more = {
            "t00741202": attribute("LO", label if number % 2 else "other"),
            "t00404005": attribute("DT", f"2028010{number // 2 + 1}"),
        }
        client.create(f"{uid}.{number}", step(**more))
    assert found(client, f"WorklistLabel={label}") == [f"{uid}.{number}" for number in (1, 3, 5)]
    assert found(client, f"WorklistLabel={label}&offset=1&limit=1") == [f"{uid}.3"]
    monkeypatch.setattr(workitems, "MOST_READ", 4)
    assert client("GET", f"?WorklistLabel={label}").status_code == 413


def test_results_have_what_was_asked_for(client: Client, uid: str) -> None:
    more = {
        "t00404034": attribute("SQ"),
        "t0040A370": attribute("SQ", {"0020000D": attribute("UI", "1.2"), "00401001": attribute("SH", "R")}),
    }
    client.create(uid, step(t00400400=attribute("LT", "a comment"), **more))
    (plain,) = client("GET", f"?SOPInstanceUID={uid}").json()
    assert {"00080016", "00741000", "00404005", "0040A370", "00380010"} <= plain.keys()
    assert "00400400" not in plain
    (some,) = client("GET", f"?SOPInstanceUID={uid}&includefield=00400400").json()
    assert some["00400400"]["Value"] == ["a comment"]
    (everything,) = client("GET", f"?SOPInstanceUID={uid}&includefield=all").json()
    assert everything == client.read(uid)
    fuzzy = client("GET", f"?SOPInstanceUID={uid}&fuzzymatching=true")
    assert "Only literal matching" in fuzzy.headers["Warning"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "Nothing=1",
        "00404005=yesterday",
        "TransactionUID=1.2",
        "includefield=00081195",
        "00404018=1",
        "fuzzymatching=1",
    ],
)
def test_what_cannot_be_searched_for(client: Client, query: str) -> None:
    assert client("GET", f"?{query}").status_code == 400


def test_who_may_do_what(server: Site, client: Client, uid: str) -> None:
    mine = Client(server, server.token("patient/Task.cruds", server.patient("P1")))
    client.create(uid)
    client.create(uid + ".2", step("P2"))
    client.create(uid + ".3", step("NOBODY"))
    assert mine.read(uid)
    for strange in (uid + ".2", uid + ".3", "1.2.3.4"):
        for answer in (
            mine("GET", f"/{strange}"),
            mine.update(strange, {}),
            mine.state(strange, "IN PROGRESS", "1.2"),
            mine("POST", f"/{strange}/cancelrequest"),
            mine.subscribe(strange),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (403, "the token is for another patient")
    assert {one["00100020"]["Value"][0] for one in mine("GET").json()} == {"P1"}
    assert mine.create(uid + ".4", step("P2")).status_code == 403
    assert client("GET", f"/{uid}.4").status_code == 404
    refused = [
        mine.create(uid + ending, step(patient)) for ending in (".2", ".4") for patient in ("P2", "NOBODY", "NEVER HEARD OF")
    ]
    assert {(answer.status_code, answer.json()["detail"]) for answer in refused} == {(403, "the token is for another patient")}
    assert mine.create(uid + ".4").status_code == 201
    for target, query in ((GLOBAL, ""), (FILTERED, "?filter=PatientID%3DP1")):
        assert mine.subscribe(target, "MINE", query).status_code == 403
    assert server.trail()[-1] == ("update", "4", "")
    reader = Client(server, server.token("system/Task.r"))
    assert reader.read(uid)
    assert [reader.create("1.2").status_code, reader("GET").status_code, reader.update(uid, {}).status_code] == [403] * 3
    nobody = Client(server, server.token("system/ImagingStudy.cruds"))
    assert nobody("GET", f"/{uid}").status_code == 403
    assert Client(server, "x")("GET", f"/{uid}").status_code == 401


def test_each_is_in_the_trail(server: Site, client: Client, uid: str) -> None:
    patient = server.patient("P1")
    before = len(server.trail())
    client.create(uid)
    client.read(uid)
    client.state(uid, "IN PROGRESS", "1.2.3")
    client.update(uid, performed(), "1.2.3")
    client("POST", f"/{uid}/cancelrequest")
    client("GET", f"?SOPInstanceUID={uid}")
    kinds = ["create", "read", "update", "update", "update", "search"]
    assert server.trail()[before:] == [(kind, "0", patient) for kind in kinds]
