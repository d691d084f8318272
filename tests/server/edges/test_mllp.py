"""The MLLP port with real sockets: the Patient Identity Feed (ITI-8), who may send it, and what a port has to stand."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from peers.authority import Authority
from peers.hl7_sender import DOMAIN, SHARED, adt, code, feeding, mrg, pid, sending
from peers.imageshare import node
from peers.shows import shows
from sqlalchemy import func, select

from ihe.mllp import FS, VT, framed
from server.bcp195 import client_context
from server.edges.context import Node
from server.edges.mllp import MllpPort
from server.errors import SettingsError
from server.records import identities, patients, resources, trail
from server.store.tables import FeedMessage

ON_BOTH_ENGINES = True
MESSAGE = FeedMessage.__table__  # type: ignore[attr-defined]
CX = f"{{}}^^^&{DOMAIN}&ISO"


def known(opened: Node, value: str) -> dict[str, Any] | None:
    """The FHIR Patient of a patient id of the affinity domain."""
    with opened.database.read() as connection:
        if patients.is_known(connection, CX.format(value), opened.settings.affinity_domain_authority) is None:
            return None
        identifier = {"system": f"urn:oid:{DOMAIN}", "value": value}
        found = identities.by_identity(connection, "Patient", **identifier)
        assert found is not None
        return dict(orjson.loads(resources.read(connection, "Patient", found).body))


def events(opened: Node, code: str = "ITI-8") -> list[dict[str, Any]]:
    """The AuditEvents of a transaction, the oldest first."""
    with opened.database.read() as connection:
        found = [orjson.loads(each.body) for each in trail.events(connection, limit=1000)]
    return [each for each in reversed(found) if each["subtype"][-1]["code"] == code]


@shows("transaction", "ITI-8 Document Registry")
def test_a_patient_is_registered_updated_and_merged(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0, affinity_domain_authority=DOMAIN) as opened, feeding(opened) as port:
        with sending(port.address) as sender:
            for event in ("A01", "A04", "A05"):
                assert code(sender.send(adt(event, pid(event)))) == "AA"
            assert code(sender.send(adt("A08", pid("A01", "Neu^Jane", more="|||1 Street^^Town^ST^12345^USA^H||555")))) == "AA"
            patient = known(opened, "A01")
            assert patient is not None
            assert patient["name"][0]["family"] == "Neu"
            assert patient["address"] == [
                {"use": "home", "line": ["1 Street"], "city": "Town", "state": "ST", "postalCode": "12345", "country": "USA"}
            ]
            assert patient["telecom"] == [{"system": "phone", "value": "555", "use": "home"}]
            assert (patient["active"], patient["birthDate"], patient["gender"]) == (True, "1980-01-02", "female")
            merge = adt("A40", pid("A01"), mrg("A04"), control="M")
            assert code(answer := sender.send(merge)) == "AA"
            assert answer.named("MSA")[0].text(2) == "M"
        assert known(opened, "A04") is None, "a subsumed identifier is known no more"
        with opened.database.read() as connection:
            found = identities.by_identity(connection, "Patient", f"urn:oid:{DOMAIN}", "A04")
            subsumed = orjson.loads(resources.read(connection, "Patient", str(found)).body)
        assert subsumed["active"] is False
        assert subsumed["link"] == [{"other": {"reference": f"Patient/{patient['id']}"}, "type": "replaced-by"}]
        told = events(opened)
        assert [(each["action"], each["outcome"]) for each in told] == [(each, "0") for each in "CCCUDU"]
        assert {each["type"]["code"] for each in told} == {"110110"}
        assert told[0]["agent"][0]["who"] == {"identifier": {"value": "FACILITY|APP"}, "display": "loopback"}
        (about,) = [each for each in told[-1]["entity"] if each["role"]["code"] == "1"]
        assert about["what"] == {"reference": f"Patient/{patient['id']}"}
        assert about["detail"] == [{"type": "MSH-10", "valueString": "M"}]


@shows("transaction", "ITI-64 Document Registry")
def test_documents_are_another_patients(tmp_path: Path) -> None:
    """What moves is tested in tests/server/work/test_link_change.py; here that the message comes through, is answered and is in the trail."""
    with node(tmp_path / "data", mllp_port=0, affinity_domain_authority=DOMAIN) as opened, feeding(opened) as port:
        with sending(port.address) as sender:
            for value in ("old", "new"):
                assert code(sender.send(adt("A01", pid(value)))) == "AA"
            local = "77^^^&1.2.3&ISO"
            moved = adt("A43^ADT_A43", f"PID|||new^^^&{DOMAIN}&ISO~{local}|| ", mrg("old"), version="2.5", control="L")
            answer = sender.send(moved)
            assert (code(answer), answer.named("MSA")[0].text(2)) == ("AA", "L")
            refused = sender.send(adt("A43", f"PID|||new^^^&{DOMAIN}&ISO~{local}|| ", mrg("nobody"), version="2.5"))
            assert code(refused) == "AE"
        told = events(opened, "ITI-64")
        assert [(each["action"], each["outcome"], each["type"]["code"]) for each in told] == [
            ("U", "0", "110110"), ("U", "0", "110110"), ("U", "4", "110110"),
        ]  # fmt: skip


def test_the_same_message_has_the_same_answer_and_is_not_done_again(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        first = adt("A01", pid("1", "Old^Jane"))
        answer = sender.send(first)
        assert code(sender.send(adt("A08", pid("1", "New^Jane"), control="1"))) == "AA", "a control id alone makes no repetition"
        again = sender.send(first)
        assert again == answer
        patient = known(opened, "1")
        assert patient is not None
        assert patient["name"][0]["family"] == "New"
        refused = adt("A40", pid("1"), mrg("2"))
        assert code(sender.send(refused)) == "AE"
        sender.send(adt("A01", pid("2")))
        assert code(sender.send(refused)) == "AA", "what was refused is tried again"


@pytest.mark.parametrize(
    ("message", "answered", "condition", "place"),
    [
        (adt("A01", pid("1", domain="1.2.3")), "AE", "204", "PID^1^3"),
        (adt("A01", "PID|||1||Doe^Jane"), "AE", "204", "PID^1^3"),
        (adt("A01", "PID|||||Doe^Jane"), "AE", "101", "PID^1^3"),
        (adt("A01"), "AE", "100", "PID^1^"),
        (adt("A01", pid("1"), pid("2")), "AE", "100", "PID^2^"),
        (adt("A40", pid("1"), mrg("1")), "AE", "205", "MRG^1^1"),
        (adt("A40", pid("1"), mrg("9")), "AE", "204", "MRG^1^1"),
        (adt("A40", pid("1"), mrg("1", "1.2.3")), "AE", "204", "MRG^1^1"),
        (adt("A40", pid("1")), "AE", "100", "MRG^1^"),
        (adt("A03", pid("1")), "AR", "201", "MSH^1^9"),
        (adt("A01", pid("1")).replace(b"ADT^", b"ORU^"), "AR", "200", "MSH^1^9"),
        (adt("A01", pid("1"), version="3.0"), "AR", "203", "MSH^1^12"),
        (adt("A01", pid("1")).replace(b"|P|", b"|X|"), "AR", "202", "MSH^1^11"),
        (adt("A01", pid("1"), control=""), "AE", "101", "MSH^1^10"),
        (adt("A01", pid("1"), header="||||||KLINGON"), "AE", "103", "MSH^1^18"),
        (adt("A01", pid("1"), header="||||||UNICODE UTF-8").replace(b"Doe", b"D\xf6e"), "AE", "102", "MSH^1^18"),
        (b"MSH|^~\\&|A", "AR", "200", "MSH^1^9"),
        (b"PID|||1", "AE", "100", "MSH^1^1"),
        (b"", "AE", "100", "MSH^1^1"),
    ],
)
def test_what_is_wrong_is_answered_with_its_place_and_changes_nothing(
    tmp_path: Path, message: bytes, answered: str, condition: str, place: str
) -> None:
    settings: dict[str, Any] = {"mllp_port": 0, "affinity_domain_authority": DOMAIN}
    with node(tmp_path / "data", **settings) as opened, feeding(opened) as port, sending(port.address) as sender:
        answer = sender.send(message)
        (error,) = answer.named("ERR")
        assert code(answer) == answered
        assert error.field(1).startswith(f"{place}^{condition}&")
        assert answer.named("MSA")[0].text(3)
        (told,) = events(opened)
        assert told["outcome"] == "4"
        assert "Doe" not in str(told)
        with opened.database.read() as connection:
            assert connection.execute(select(func.count()).select_from(resources.RESOURCE)).scalar_one() == 0
            assert connection.execute(select(func.count()).select_from(MESSAGE)).scalar_one() == 0


def test_an_answer_in_hl7_2_5_has_the_error_where_2_5_has_it(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        answer = sender.send(adt("A40", pid("1"), mrg("9"), version="2.5"))
        assert answer.header.field(9) == "ACK^A40^ACK"
        assert [answer.named("ERR")[0].field(each) for each in (1, 2, 3, 4)] == [
            "",
            "MRG^1^1",
            "204^Unknown key identifier^HL70357",
            "E",
        ]


def test_a_merge_chain_has_its_last_patient_only(tmp_path: Path) -> None:
    """ITI TF-2 section 3.8.4.2.4: what was subsumed is not merged again, and nobody is merged into it."""
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        for value in "123":
            sender.send(adt("A01", pid(value)))
        for surviving, subsumed, answered in (
            ("2", "1", "AA"),
            ("3", "1", "AE"),
            ("1", "3", "AE"),
            ("3", "2", "AA"),
            ("2", "3", "AE"),
        ):
            assert code(sender.send(adt("A40", pid(surviving), mrg(subsumed)))) == answered, (surviving, subsumed)
        assert code(sender.send(adt("A40", pid("3"), mrg("2"), control="9"))) == "AA", "it is so already"
        for value in "12":
            assert code(sender.send(adt("A08", pid(value)))) == "AE"
        assert [known(opened, value) is not None for value in "123"] == [False, False, True]


def test_a_merge_into_somebody_new_makes_her_known(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        sender.send(adt("A01", pid("1")))
        assert code(sender.send(adt("A40", pid("2", "Survivor^Sue"), mrg("1")))) == "AA"
        patient = known(opened, "2")
        assert patient is not None
        assert patient["name"][0]["family"] == "Survivor"


@shows("transaction", "ITI-8 Document Registry")
def test_nists_message_is_taken(tmp_path: Path) -> None:
    """Of HL7 2.3, without EVN, its segments ended by LF, its control id always the same."""
    if not SHARED.exists():
        pytest.skip("../shared/testdata is not here")
    text = (SHARED / "nist" / "adt" / "A01.txt").read_bytes()
    with node(tmp_path / "data", mllp_port=0, affinity_domain_authority=DOMAIN) as opened, feeding(opened) as port:
        for value in ("P1", "P2"):
            with sending(port.address) as sender:
                answer = sender.send(text.replace(b"$pid$", CX.format(value).encode()))
            assert [answer.named("MSA")[0].text(each) for each in (1, 2)] == ["AA", "HL7MSG00001"]
            patient = known(opened, value)
            assert patient is not None
            assert patient["name"][0]["text"] == "JOHN A APPLESEED III"


def test_who_is_not_listed_is_not_heard(tmp_path: Path) -> None:
    peers = [{"name": "his", "address": "127.0.0.2"}]
    with node(tmp_path / "data", mllp_port=0, hl7_peers=peers) as opened, feeding(opened) as port:
        with sending(port.address) as sender, pytest.raises((EOFError, ConnectionError)):
            sender.send(adt("A01", pid("1")))
        assert known(opened, "1") is None
        (told,) = events(opened)
        assert (told["outcome"], told["agent"][0]["network"]["address"]) == ("4", "127.0.0.1")
        with socket.create_connection(port.address, timeout=30, source_address=("127.0.0.2", 0)) as listed:
            listed.sendall(framed(adt("A01", pid("1"))))
            assert b"MSA|AA" in listed.recv(4096)
        assert events(opened)[-1]["agent"][0]["who"]["display"] == "his"


def test_a_sender_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    (his, his_key), (other, other_key) = authority.issue("his"), authority.issue("other")
    settings: dict[str, Any] = {
        "mllp_port": 0, "mllp_tls_port": 0, "mllp_tls_certificate": certificate, "mllp_tls_key": key, "mllp_tls_ca": authority.path,
        "hl7_peers": [{"name": "his", "certificates": [str(his)]}],
    }  # fmt: skip
    with node(tmp_path / "data", **settings) as opened, feeding(opened) as port:
        assert port.tls_address is not None
        with sending(port.tls_address, client_context("bcp195", authority.path, his, his_key)) as sender:
            assert code(sender.send(adt("A01", pid("1")))) == "AA"
        for context in (
            client_context("bcp195", authority.path, other, other_key),
            client_context("bcp195", authority.path),
            None,
        ):
            with pytest.raises((EOFError, OSError)), sending(port.tls_address, context) as sender:
                sender.send(adt("A01", pid("2")))
        with pytest.raises((EOFError, OSError)), sending(port.address) as sender:
            sender.send(adt("A01", pid("2")))
        assert known(opened, "1") is not None
        assert known(opened, "2") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mllp_tls_port": 0}, "MLLP_TLS_CERTIFICATE"),
        ({"mllp_tls_port": 0, "mllp_tls_certificate": "c", "hl7_peers": [{"name": "a", "certificates": ["c"]}]}, "c"),
    ],
)
def test_a_port_without_what_it_needs_does_not_open(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with node(tmp_path / "data", mllp_port=0, **settings) as opened, pytest.raises(SettingsError, match=words):
        MllpPort(opened).start()


def test_a_port_that_is_taken_is_told_if_it_was_asked_for(tmp_path: Path, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)), node(tmp_path / "data", mllp_port=free_port) as opened:
        with pytest.raises(SettingsError, match="MLLP_PORT"):
            MllpPort(opened).start()


# --- abuse


def test_what_is_no_message_does_not_stop_the_next(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mllp_port": 0, "max_message_bytes": 200_000}
    with node(tmp_path / "data", **settings) as opened, feeding(opened) as port, sending(port.address) as sender:
        huge = adt("A01", pid("1"), "ZZZ|" + "x" * 300_000)
        answer = sender.send(huge)
        assert (code(answer), answer.named("MSA")[0].text(2)) == ("AE", "1"), "it can be told whose answer it is"
        assert "200000" in answer.named("MSA")[0].text(3)
        sender.socket.sendall(b"garbage\r\n" + VT + b"half a mess" + framed(adt("A01", pid("2"))))
        assert code(sender.answer()) == "AA"
        sender.socket.sendall(VT + adt("A01", pid("3")) + FS + b"\n" + framed(adt("A01", pid("4"))))
        assert [code(sender.answer()) for _ in range(2)] == ["AA", "AA"]
        assert code(sender.send(adt("A01", pid("5"), *["ZZZ|1"] * 10_000))) == "AA"
        assert code(sender.send(adt("A01", pid("6"), "zz|1"))) == "AE"
        assert code(sender.send(adt("A01", pid("6", name="~^&\\" * 20_000)))) == "AA"
        assert [known(opened, value) is not None for value in "123456"] == [False, True, True, True, True, True]
        sender.socket.sendall(b"GET / HTTP/1.1\r\n" * 10_000)
        with pytest.raises((EOFError, ConnectionError)):
            sender.answer()


def test_a_browser_is_not_heard(tmp_path: Path) -> None:
    """A web page may have it send anything to this machine's ports, as the body of a request."""
    message = framed(adt("A01", pid("1")))
    request = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(message), message)
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        sender.socket.sendall(request)
        with pytest.raises((EOFError, ConnectionError)):
            sender.answer()
        assert known(opened, "1") is None


def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0, mllp_idle=0.2) as opened, feeding(opened) as port:
        with sending(port.address) as sender, pytest.raises(EOFError):
            sender.answer()


def test_a_message_that_does_not_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.mllp.port.MESSAGE_SECONDS", 0.3)
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        sender.socket.sendall(VT + b"MSH|")
        with pytest.raises(EOFError):
            sender.answer()


def test_there_are_no_more_connections_than_allowed(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0, mllp_connections=2) as opened, feeding(opened) as port:
        with sending(port.address) as first, sending(port.address) as second:
            for sender in (first, second):
                assert code(sender.send(adt("A01", pid("1")))) == "AA"
            with sending(port.address) as third, pytest.raises((EOFError, ConnectionError)):
                third.send(adt("A01", pid("1")))


def test_many_senders_at_once_make_one_patient(tmp_path: Path) -> None:
    answers = list[str]()

    def feed(number: int) -> None:
        with sending(port.address) as sender:
            answers.append(code(sender.send(adt("A01", pid("1", f"Doe^Jane{number}"), control=str(number)))))

    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port:
        threads = [threading.Thread(target=feed, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert answers == ["AA"] * 8
        assert known(opened, "1") is not None
        assert sorted(each["action"] for each in events(opened)) == ["C", *"UUUUUUU"]


def test_what_is_being_done_is_answered_when_the_port_ends(tmp_path: Path) -> None:
    with node(tmp_path / "data", mllp_port=0) as opened:
        with feeding(opened) as port, sending(port.address) as sender:
            sender.socket.sendall(framed(adt("A01", pid("1"))))
            assert code(sender.answer()) == "AA"
            port.stop()
            with pytest.raises((EOFError, ConnectionError)):
                sender.send(adt("A01", pid("2")))
        assert known(opened, "2") is None


@pytest.mark.parametrize("value", ["9\\E\\P2", "9" * 65])
def test_a_patient_id_that_dicom_cannot_say_is_refused(tmp_path: Path, value: str) -> None:
    """It would be two values of (0010,0020), one of them somebody else's."""
    with node(tmp_path / "data", mllp_port=0) as opened, feeding(opened) as port, sending(port.address) as sender:
        answer = sender.send(adt("A01", pid(value)))
        assert code(answer) == "AE"
        assert "DICOM" in str(answer)
        assert known(opened, value.replace("\\E\\", "\\")) is None


def test_tls_that_never_begins_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.edges.mllp.port.HANDSHAKE_SECONDS", 0.3)
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    settings: dict[str, Any] = {"mllp_port": 0, "mllp_tls_port": 0, "mllp_tls_certificate": certificate, "mllp_tls_key": key}
    with node(tmp_path / "data", **settings) as opened, feeding(opened) as port:
        assert port.tls_address is not None
        with socket.create_connection(port.tls_address, timeout=30) as silent:
            assert silent.recv(1) == b""
        with sending(port.tls_address, ssl_context(authority)) as sender:
            assert code(sender.send(adt("A01", pid("1")))) == "AA"


def ssl_context(authority: Authority) -> ssl.SSLContext:
    return client_context("bcp195", authority.path)
