"""Who is not answered, which messages are none, and that the trail keeps all of it."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from peers import imageshare
from peers.xds import (
    LOOPBACK,
    REGISTRY,
    REPOSITORY,
    SOURCE,
    Archive,
    cx,
    fault,
    get,
    instance,
    uids,
)
from pydicom.uid import ExplicitVRLittleEndian
from starlette.requests import Request

from ihe import iti18, iti43, mtom, rad69, soap
from ihe.ebrs import SUCCESS
from ihe.find_documents import FindDocuments, GetDocuments
from server.access.decisions import Decision, everything, parse_scopes
from server.edges.soap import endpoint
from server.records import registry

ON_BOTH_ENGINES = True


@pytest.fixture
def archive(tmp_path: Path, database_url: str) -> Iterator[Archive]:
    with imageshare.node(tmp_path / "data", database_url) as node:
        yield Archive(node)


@pytest.fixture
def one_archive(tmp_path: Path) -> Iterator[Archive]:
    """For what never reaches the database but for the trail."""
    with imageshare.node(tmp_path / "data") as node:
        yield Archive(node)


@pytest.mark.parametrize(
    ("address", "base_url", "headers"),
    [
        (("203.0.113.9", 1234), "http://127.0.0.1:8080", {}),
        (LOOPBACK, "http://127.0.0.1:8080", {"X-Forwarded-For": "203.0.113.9"}),
        (LOOPBACK, "http://127.0.0.1:8080", {"Forwarded": "for=203.0.113.9"}),
        (LOOPBACK, "http://rebound.example:8080", {}),
    ],
)
@pytest.mark.parametrize("path", [REGISTRY, REPOSITORY, SOURCE])
def test_only_this_machine_is_answered(
    one_archive: Archive, path: str, address: tuple[str, int], base_url: str, headers: dict[str, str]
) -> None:
    response = one_archive.client(address, base_url).post(
        path, content=b"<x/>", headers={"Content-Type": "application/soap+xml", **headers}
    )
    assert fault(response, 403).code == "Sender"
    (event,) = one_archive.trail({REGISTRY: "ITI-18", REPOSITORY: "ITI-43", SOURCE: "RAD-69"}[path])
    assert event.outcome == "4"
    assert {"address": address[0], "type": "2"} in [agent.get("network") for agent in event.body["agent"]]


def test_a_server_with_a_public_name_does_not_trust_loopback(tmp_path: Path) -> None:
    """Its reverse proxy may be on the same machine, and say nothing of whom it speaks for."""
    with imageshare.node(tmp_path / "data", public_url="https://images.example.org") as node:
        response = Archive(node).client().post(REGISTRY, content=b"<x/>", headers={"Content-Type": "application/soap+xml"})
        assert "IMAGESHARE_PUBLIC_URL" in fault(response, 403).reason


def test_a_public_name_of_this_machine_is_no_other(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data", public_url="http://localhost:8080") as node:
        response = Archive(node).client().post(REGISTRY, content=b"<x/>", headers={"Content-Type": "application/soap+xml"})
        assert response.status_code != 403


@pytest.mark.parametrize("base_url", ["http://localhost:8080", "http://[::1]:8080"])
def test_loopback_has_several_names(one_archive: Archive, base_url: str) -> None:
    client = one_archive.client(("::1", 50000), base_url)
    message = soap.render_request(iti18.REQUEST_ACTION, iti18.request(FindDocuments("P1^^^&1.2&ISO").query()), "urn:uuid:1", "")
    assert client.post(REGISTRY, content=message, headers={"Content-Type": "application/soap+xml"}).status_code == 200


def test_a_narrower_decision_hides_other_patients(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """What partners will get: the same requests, filtered by their Decision."""
    mine, other = instance("P1", "2.25.1", "2.25.1.1"), instance("P2", "2.25.2", "2.25.2.1")
    archive.send(mine, other)
    (one,), (two,) = archive.find(cx(archive, "P1")), archive.find(cx(archive, "P2"))
    patient = archive.trail("ITI-18")[0].patient

    def narrow(request: Request) -> Decision:
        return Decision("partner", parse_scopes("patient/*.rs"), patient)

    monkeypatch.setattr(endpoint, "admit", narrow)
    assert archive.find(cx(archive, "P1")) == (one,)
    assert archive.find(cx(archive, "P2")) == ()
    assert archive.query(GetDocuments(unique_ids=(one.unique_id, two.unique_id)).query()).entries == (one,)
    _, documents = get(archive, one.unique_id, two.unique_id)
    assert documents.keys() == {one.unique_id}
    answer, images = archive.images(uids(mine), uids(other))
    assert images == {uids(mine)[2]: mine}
    assert [(error.code, error.location) for error in answer.errors] == [("XDSDocumentUniqueIdError", uids(other)[2])]


def good() -> bytes:
    return soap.render_request(iti18.REQUEST_ACTION, iti18.request(FindDocuments("P1^^^&1.2&ISO").query()), "urn:uuid:1", "")


def with_entities(message: bytes) -> bytes:
    declaration = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    return message.replace(b"<env:Envelope", declaration + b"<env:Envelope", 1).replace(b"P1^^^", b"&c;&b;^^^")


PLAIN = "application/soap+xml; charset=UTF-8"
MTOM = mtom.content_type("b0undary", iti18.REQUEST_ACTION)


@pytest.mark.parametrize(
    ("change", "content_type", "status", "code"),
    [
        (with_entities, PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"utf-8", b"UTF-16").decode().encode("utf-16"), PLAIN, 200, ""),
        (lambda m: m[:-30], PLAIN, 400, "Sender"),
        (lambda m: b"", PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"2003/05/soap-envelope", b"2001/12/soap-envelope"), PLAIN, 500, "VersionMismatch"),
        (lambda m: m.replace(iti18.REQUEST_ACTION.encode(), iti43.REQUEST_ACTION.encode()), PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"addressing/anonymous", b"addressing/elsewhere"), PLAIN, 400, "Sender"),
        (
            lambda m: m.replace(b"<env:Header>", b'<env:Header><s:Security xmlns:s="s" env:mustUnderstand="1"/>'),
            PLAIN,
            500,
            "MustUnderstand",
        ),
        (lambda m: m, 'application/soap+xml; action="None"', 200, ""),
        (lambda m: m, "text/xml", 415, "Sender"),
        (lambda m: m, "", 415, "Sender"),
        (lambda m: m, 'multipart/related; boundary=b0undary; type="text/xml"', 415, "Sender"),
        (lambda m: m, "multipart/related", 400, "Sender"),
        (lambda m: b"".join(mtom.chunks(m, (), lambda _: (), "b0undary")), MTOM, 200, ""),
        (lambda m: b"".join(mtom.chunks(m, (), lambda _: (), "b0undary"))[:-20], MTOM, 400, "Sender"),
        (lambda m: b"".join(mtom.chunks(m, (), lambda _: (), "b0undary"))[:300], MTOM, 400, "Sender"),
        (lambda m: b"--b0undary--\r\n", MTOM, 400, "Sender"),
        (lambda m: m, MTOM, 400, "Sender"),
        (lambda m: with_entities(b"".join(mtom.chunks(m, (), lambda _: (), "b0undary"))), MTOM, 400, "Sender"),
        (lambda m: m.replace(b"<env:Body>", b"<env:Body>" + b"<a>" * 100_000), PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"<env:Body>", b"<env:Body>" + b"<a>" * 100_000 + b"</a>" * 100_000), PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"<env:Body>", b"<env:Header/><env:Body>"), PLAIN, 400, "Sender"),
        (lambda m: m.replace(b"<env:Header>", b"<env:Body/><env:Header>"), PLAIN, 400, "Sender"),
    ],
)
def test_messages_that_are_none(
    one_archive: Archive, change: Callable[[bytes], bytes], content_type: str, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = one_archive.client().post(REGISTRY, content=change(good()), headers=headers)
    (event,) = one_archive.trail("ITI-18")
    if status == 200:
        assert iti18.parse_response(soap.response_of(soap.parse(response.content))).status == SUCCESS
        return
    refused = fault(response, status)
    assert refused.code == code
    assert event.outcome == ("8" if status >= 500 else "4")
    assert event.why == refused.reason
    assert b"root:" not in response.content
    assert b"Traceback" not in response.content


@pytest.mark.parametrize("announced", [True, False])
def test_a_message_that_is_too_large(tmp_path: Path, announced: bool) -> None:
    with imageshare.node(tmp_path / "data", max_message_bytes=10_000) as node:
        archive = Archive(node)
        body = good() + b" " * 10_000
        content = body if announced else iter([body[:9000], body[9000:]])
        response = archive.client().post(REGISTRY, content=content, headers={"Content-Type": PLAIN})
        assert fault(response, 413).code == "Sender"
        assert [event.outcome for event in archive.trail("ITI-18")] == ["4"]


def test_a_compressed_message_is_not_unpacked(one_archive: Archive) -> None:
    headers = {"Content-Type": PLAIN, "Content-Encoding": "gzip"}
    fault(one_archive.client().post(REGISTRY, content=good(), headers=headers), 415)


def test_only_post_is_answered(one_archive: Archive) -> None:
    response = one_archive.client().get(f"{REGISTRY}?wsdl")
    fault(response, 405)
    assert response.headers["allow"] == "POST"


def test_a_failure_of_ours_is_a_receiver_fault_without_its_text(
    one_archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Doe^Jane")

    monkeypatch.setattr("server.work.stored_queries.answer", broken)
    response = one_archive.client().post(REGISTRY, content=good(), headers={"Content-Type": PLAIN, "X-Request-Id": "r-1"})
    refused = fault(response, 500)
    assert refused.code == "Receiver"
    assert "r-1" in refused.reason
    assert response.headers["x-request-id"] == "r-1"
    assert b"Doe" not in response.content
    assert soap.parse(response.content).relates_to == "urn:uuid:1"
    (event,) = one_archive.trail("ITI-18")
    assert event.outcome == "8"


def test_nothing_is_disclosed_that_the_trail_does_not_keep(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    file = instance()
    archive.send(file)

    def full(*_: object, **__: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(archive.node.trail, "write", full)
    for path, action, body in (
        (REGISTRY, iti18.REQUEST_ACTION, iti18.request(FindDocuments(cx(archive)).query())),
        (SOURCE, rad69.REQUEST_ACTION, archive.images_request([uids(file)], [ExplicitVRLittleEndian])),
    ):
        response = archive.post(path, action, body)
        fault(response, 500)
        assert cx(archive).encode() not in response.content


def test_the_trail_keeps_the_query_and_the_caller(archive: Archive) -> None:
    archive.send(instance())
    archive.find(cx(archive))
    (event,) = archive.trail("ITI-18")
    assert (event.outcome, event.body["type"]["code"]) == ("0", "110112")
    (query,) = [entity["query"] for entity in event.body["entity"] if "query" in entity]
    assert iti18.parse_request(etree.fromstring(base64.b64decode(query))).value("$XDSDocumentEntryPatientId") == cx(archive)
    assert event.patient
    assert everything("loopback").subject in str(event.body["agent"])


def test_no_message_at_all_is_our_failure(one_archive: Archive) -> None:
    client = one_archive.client()
    message = good()

    @given(
        st.integers(0, len(message)),
        st.integers(0, 40),
        st.binary(max_size=40),
        st.sampled_from([PLAIN, MTOM]) | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40),
    )
    def answered(at: int, length: int, other: bytes, content_type: str) -> None:
        damaged = message[:at] + other + message[at + length :]
        response = client.post(REGISTRY, content=damaged, headers={"Content-Type": content_type.strip().encode("latin-1")})
        assert response.status_code < 500 or fault(response, 500).code in ("MustUnderstand", "VersionMismatch")

    answered()


def test_who_asks_for_anothers_document_is_in_that_patients_trail(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.send(instance("P1", "2.25.1", "2.25.1.1"), instance("P2", "2.25.2", "2.25.2.1"))
    own, other = (archive.find(cx(archive, patient))[0] for patient in ("P1", "P2"))
    with archive.node.database.read() as connection:
        mine, hers = (registry.by_unique_id(connection, [each.unique_id])[0].patient for each in (own, other))
    monkeypatch.setattr(endpoint, "admit", lambda _: Decision("partner", parse_scopes("patient/*.rs"), mine))
    answer, documents = get(archive, own.unique_id, other.unique_id)
    assert list(documents) == [own.unique_id]
    assert [error.code for error in answer.errors] == ["XDSDocumentUniqueIdError"]
    refused = [event for event in archive.trail("ITI-43") if event.outcome == "4"]
    assert [event.patient for event in refused] == [hers]
