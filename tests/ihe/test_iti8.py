"""Patient Identity Feed messages, there and back, and those of other projects."""

import base64

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from peers.hl7_sender import SHARED, adt, mrg, pid

from ihe import hl7v2, iti8
from ihe.audit_message import audit_message
from ihe.hl7v2 import MessageRefused
from ihe.iti8 import EVENTS, Event, Feed, Identifier
from profiles.audit_event import ITI_8, Agent, AuditedAction, AuditedEntity, audit_event
from profiles.demographics import Address, Demographics, Telecom

WORD = st.text("abcÄ山|^~&\\.- ", min_size=1, max_size=8).map(lambda each: " ".join(each.split())).filter(bool)
NAME = st.lists(st.text("abcÄ山|~&.-", min_size=1, max_size=8), min_size=1, max_size=5).map("^".join)
ADDRESS = st.builds(
    Address, st.lists(WORD, max_size=2).map(tuple), WORD, WORD, WORD, WORD, st.sampled_from(["", "home", "work", "temp"])
)
TELECOM = st.builds(Telecom, st.sampled_from(["phone", "fax", "email"]), WORD, st.sampled_from(["home", "work"])) | st.builds(
    Telecom, st.just("phone"), WORD.filter(lambda each: "@" not in each), st.just("mobile")
)
DEMOGRAPHICS = st.builds(
    Demographics,
    name=st.none() | st.just("") | NAME | st.tuples(NAME, NAME).map("=".join),
    birth_date=st.sampled_from([None, "", "1980", "198002", "19800229"]),
    sex=st.sampled_from([None, "", "F", "M", "O", "U"]),
    addresses=st.none() | st.just(()) | st.lists(ADDRESS, min_size=1, max_size=2).map(tuple),
    telecom=st.none()
    | st.lists(TELECOM, min_size=1, max_size=3).map(lambda each: tuple(sorted(each, key=lambda one: one.use == "work"))),
)
OID = "1.2.3.4"
FEED = st.builds(
    Feed,
    event=st.sampled_from(sorted(EVENTS)),
    control_id=WORD,
    source=st.tuples(WORD, WORD),
    destination=st.tuples(WORD, WORD),
    patient=st.lists(st.builds(Identifier, WORD, st.sampled_from(["", OID]), WORD), min_size=1, max_size=3).map(tuple),
    demographics=DEMOGRAPHICS,
    subsumed=st.just(()),
)


def _with_subsumed(feed: Feed) -> Feed:
    more = (Identifier("old", OID),) if feed.is_merge else ()
    return Feed(feed.event, feed.control_id, feed.source, feed.destination, feed.patient, feed.demographics, more)


@given(FEED.map(_with_subsumed), st.sampled_from(["2.3.1", "2.5"]))
def test_a_feed_is_read_as_it_was_written(feed: Feed, version: str) -> None:
    assert iti8.read(hl7v2.read(iti8.message(feed, now="20260101120000", version=version))) == feed


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_what_we_write_is_what_hl7_says(event: Event) -> None:
    """hl7apy knows the structures of 2.5 with their segments, cardinalities and data types."""
    said = Demographics(
        "Doe^Jane=山田^花子", "19800102", "F", (("maiden", "Roe"),), (Address(("1 Street",), "Town", "", "1", "CHE", "home"),),
        (Telecom("phone", "1", "home"), Telecom("email", "a@b", "work")),
    )  # fmt: skip
    feed = Feed(
        event, "7", ("A", "B"), ("C", "D"), (Identifier("1", OID),), said, (Identifier("2", OID),) if event == "A40" else ()
    )
    text = iti8.message(feed, now="20260101120000", version="2.5").decode()
    parsed = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT)
    assert parsed.name == EVENTS[event][1]
    assert parsed.validate()


def test_messages_of_other_projects_are_read() -> None:
    if not SHARED.exists():
        pytest.skip("../shared/testdata is not here")
    folder = SHARED / "ipf" / "hl7v3" / "test" / "translation"
    found = {
        each.name: iti8.read(hl7v2.read(each.read_bytes())) for each in folder.glob("pix[sf]*/v2/*.hl7") if "A10" not in each.name
    }
    assert {each.event for each in found.values()} == {"A01", "A04", "A08", "A40"}
    first = found["PIX_FEED_REG_Maximal_Request.hl7"]
    assert first.patient == (
        Identifier("PIX10515W3", "1.3.6.1.4.1.21367.2005.1.1", "HIMSS2005"),
        Identifier("PIX10515W4", "1.2.3.4.5.1000", ""),
        Identifier("PIX10515W5", "", "domain2"),
    )
    assert first.demographics.name == "WASHINGTON^MARY^ROSE^Dr.^II"
    assert first.demographics.other_names == (("maiden", "DEAN"),)
    assert [(each.system, each.value, each.use) for each in first.demographics.telecom or ()] == [
        ("phone", "012-0001", "home"), ("phone", "012-0003", "mobile"), ("fax", "012-0004", "home"), ("email", "marywash@gmx.de", "home"),
        ("phone", "012-0002", "work"),
    ]  # fmt: skip
    assert [each.value for each in found["A01.hl7"].patient] == ["306563", "30753"], "an identifier that is null is none"
    assert found["A40.hl7"].subsumed == (Identifier("704686", "2.16.840.1.113883.3.37.4.1.1.2.1.1", "130"),)
    nist = iti8.read(hl7v2.read((SHARED / "nist" / "adt" / "A01.txt").read_bytes()))
    assert (nist.control_id, nist.demographics.name) == ("HL7MSG00001", "APPLESEED^JOHN^A^^III")


@pytest.mark.parametrize(
    ("born", "said"),
    [("19800102", "19800102"), ("198001", "198001"), ("1980", "1980"), ("198001021530+0100", "19800102"), ("19000000", None), ("x", None), ('""', ""), ("", None)],
)  # fmt: skip
def test_birth_dates(born: str, said: str | None) -> None:
    assert iti8.read(hl7v2.read(adt("A01", pid("1", born=born)))).demographics.birth_date == said


def test_the_event_may_stand_in_evn_alone() -> None:
    assert iti8.read(hl7v2.read(adt("A08", pid("1")).replace(b"ADT^A08", b"ADT"))).event == "A08"


@pytest.mark.parametrize(
    ("message", "condition", "field"),
    [
        (adt("A40", pid("1"), mrg("2"), mrg("3")), "100", ("MRG", 0)),
        (adt("A40", pid("1"), "MRG|"), "101", ("MRG", 1)),
        (adt("A11", pid("1")), "201", ("MSH", 9)),
        (adt("A01", pid('""')), "101", ("PID", 3)),
        (adt("A01", pid("9" * 256)), "102", ("PID", 3)),
        (adt("A01", pid("a\\.br\\b")), "102", ("PID", 3)),
        (adt("A01", pid("1"), control="9" * 256), "102", ("MSH", 10)),
    ],
)
def test_what_is_refused(message: bytes, condition: str, field: tuple[str, int]) -> None:
    with pytest.raises(MessageRefused) as refused:
        iti8.read(hl7v2.read(message))
    assert (refused.value.condition, (refused.value.segment, refused.value.number)) == (condition, field)


def test_the_audit_message_is_that_of_the_transaction() -> None:
    """ITI TF-2 section 3.8.5.1: Patient Record, the sender by facility and application, the message by its control id."""
    schema = SHARED / "ipf" / "dicom2017c.xsd"
    if not schema.exists():
        pytest.skip("../shared/testdata is not here")
    action = AuditedAction(
        id="a1", recorded="2026-01-08T12:00:00.000Z", kind="delete", rest=False, subtypes=(ITI_8,), patient_id="p1",
        client=Agent(identifier="FACILITY|APP", address="192.0.2.7"), server=Agent(identifier="urn:oid:2.25.9", address="https://here.example"),
        entities=(AuditedEntity(details=(("MSH-10", "M7"),)),),
    )  # fmt: skip
    root = etree.fromstring(audit_message(audit_event(action), patient="1^^^&1.2.3&ISO", process="17"))
    etree.XMLSchema(etree.parse(schema)).assertValid(root)
    assert [(each.get("csd-code"), each.get("originalText")) for each in root.iter("EventID", "EventTypeCode")] == [
        ("110110", "Patient Record"),
        ("ITI-8", "Patient Identity Feed"),
    ]
    assert root.xpath("EventIdentification/@EventActionCode") == ["D"]
    assert next(each.get("UserID") for each in root.iter("ActiveParticipant")) == "FACILITY|APP"
    (about,) = root.iter("ParticipantObjectIdentification")
    assert (about.get("ParticipantObjectTypeCodeRole"), about.get("ParticipantObjectID")) == ("1", "1^^^&1.2.3&ISO")
    assert [(each.get("type"), base64.b64decode(each.get("value", ""))) for each in about.iter("ParticipantObjectDetail")] == [
        ("MSH-10", b"M7")
    ]


def test_who_is_identified() -> None:
    known = {"HOSPITAL": "1.2.3"}
    for identifier, oid in (
        (Identifier("1", "1.2.9"), "1.2.9"),
        (Identifier("1", "", "HOSPITAL"), "1.2.3"),
        (Identifier("1", "1.2.9", "HOSPITAL"), "1.2.9"),
        (Identifier("1", "no oid"), None),
        (Identifier("1", "", "OTHER"), None),
        (Identifier("1"), None),
    ):
        found = iti8.identified(identifier, known)
        assert (found.authority.oid if found else None) == oid
