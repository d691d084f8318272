"""HL7 v2 messages: what real senders write is read, what we write is read by two other libraries."""

import hl7
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from ihe import hl7v2
from ihe.hl7v2 import CONDITIONS, Encoding, Message, MessageRefused, acknowledgment, header_of, read

HEADER = "MSH|^~\\&|A|B|C|D|20260101120000||ADT^A01|7|P|2.3.1"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30)


def _pid(data: bytes) -> hl7v2.Segment:
    (found,) = read(data).named("PID")
    return found


@given(TEXT)
def test_any_text_in_a_field_is_read_as_it_was_written(text: str) -> None:
    for encoding in (hl7v2.UTF8, Encoding("#", "*", "!", "%", "$", "utf-8")):
        charset = ["UNICODE UTF-8"]
        data = hl7v2.written([["MSH", *[""] * 9, "2.5", *[""] * 5, *charset], ["PID", encoding.escaped(text), "x"]], encoding)
        assert _pid(data).text(1) == text.strip()
        assert _pid(data).text(2) == "x"


@given(st.text("ABC\\|^~&. ", max_size=20))
def test_another_library_reads_what_we_write(text: str) -> None:
    data = hl7v2.written([["MSH", *[""] * 9, "2.5"], ["PID", "", "", f"{hl7v2.PLAIN.escaped(text)}^2&3~4"]])
    theirs = hl7.parse(data.decode())
    assert theirs.extract_field("PID", 1, 3, 1, 1) == text
    assert [theirs.extract_field("PID", 1, 3, *each) for each in ((1, 2, 1), (1, 2, 2), (2, 1, 1))] == ["2", "3", "4"]


def _read(data: bytes) -> Message | None:
    """The message, None where it is refused, for a reason of HL7 table 0357."""
    try:
        return read(data)
    except MessageRefused as refused:
        CONDITIONS[refused.condition]
        return None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for each in (data, HEADER.encode() + b"\r" + data, b"MSH" + data, b"MSH|^~\\&" + data):
        message = _read(each)
        if message is None:
            continue
        for segment in message.segments:
            for number in range(1, 6):
                segment.text(number, 2, 2)
                segment.values(number)
        answer = read(acknowledgment(message.header, None, control_id="1", now="2026"))
        assert answer.named("MSA")[0].text(1) == "AA"


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n", "\r\n\r\n", "\n\n"])
def test_segments_end_in_whatever_senders_end_them_with(ending: str) -> None:
    data = ending.join([HEADER, "PID|1||A^B", "PV1||O", ""]).encode()
    assert [each.name for each in read(data).segments] == ["MSH", "PID", "PV1"]
    assert [_pid(data).text(3, number) for number in (1, 2, 3)] == ["A", "B", ""]


def test_a_line_feed_within_a_field_is_kept_where_segments_end_in_cr() -> None:
    assert _pid(f"{HEADER}\rPID|1|a\nb\r".encode()).text(2) == "a\nb"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("\\H\\loud\\N\\", "loud"),
        ("a\\.br\\b", "a\nb"),
        ("\\X41\\\\X4243\\", "ABC"),
        ("\\X4\\\\Xzz\\x", "x"),
        ("50\\ off", "50\\ off"),
        ("\\Zown\\x", "x"),
    ],
)
def test_escapes(written: str, meant: str) -> None:
    assert _pid(f"{HEADER}\rPID|{written}".encode()).text(1) == meant


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"), ("utf-8", "utf-8"), ("UNICODE", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"),
        ("", "utf-8"), ("", "latin-1"), ("ASCII", "latin-1"),
    ],
)  # fmt: skip
def test_character_sets(charset: str, codec: str) -> None:
    assert _pid(f"{HEADER}||||||{charset}\rPID|Müller".encode(codec)).text(1) == "Müller"


def test_japanese_in_two_character_sets() -> None:
    data = f"{HEADER}||||||~ISO IR87\rPID|".encode() + "Yamada^Tarou~山田^太郎".encode("iso2022_jp_2")
    assert [each.text(2) for each in _pid(data).values(1)] == ["Tarou", "太郎"]


def test_delimiters_of_the_senders_choice_and_none_of_the_last() -> None:
    assert _pid(b"MSH#*!%$#A\rPID#1*2$3!4").text(1, 2, 2) == "3"
    assert _pid(b"MSH|^~\\|A\rPID|1^2&3~4").text(1, 2, 2) == "3"


@pytest.mark.parametrize(
    "data", [b"", b"MSH", b"MSHA", b"MSH|", b"MSH||A", b"MSH|^^~&|A", b"MSH|^|~|", b"PID|1", b"MSH|^~\\&|A\rP|1"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        read(data if data != b"MSH|^|~|" else b"MSH|abcd|")


def test_a_message_that_is_cut_off_still_says_whose_it_is() -> None:
    assert header_of(f"{HEADER}\rPID|1||\xff".encode("latin-1")).text(10) == "7"


@pytest.mark.parametrize("version", ["2.3.1", "2.5", "2.6"])
@pytest.mark.parametrize("refused", [None, MessageRefused("204", "nobody has this | identifier", "PID", 3)])
def test_acknowledgments_are_those_of_hl7(version: str, refused: MessageRefused | None) -> None:
    """hl7apy knows the structure ACK of each version, with its cardinalities and data types."""
    header = header_of(HEADER.replace("2.3.1", version).encode())
    data = acknowledgment(header, refused, control_id="9", now="20260101120000+0000")
    text = data.decode().replace(
        "|ACK^A01|", "|ACK^A01^ACK|"
    )  # without the structure, which 2.3.1 need not name, hl7apy knows none
    parsed = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT)
    assert parsed.validate()
    assert (parsed.msa.msa_1.value, parsed.msa.msa_2.value) == ("AA" if refused is None else "AE", "7")
    assert [parsed.msh.children.get(f"msh_{each}")[0].value for each in (3, 4, 5, 6)] == ["C", "D", "A", "B"]
    if refused is not None:
        error = parsed.err.err_3 if version >= "2.5" else parsed.err.err_1
        assert "204" in error.value
        assert read(data).named("MSA")[0].text(3) == "nobody has this | identifier"


@pytest.mark.parametrize(
    ("condition", "code"), [("100", "AE"), ("204", "AE"), ("206", "AE"), ("200", "AR"), ("201", "AR"), ("207", "AR")]
)
def test_which_conditions_reject_a_message(condition: str, code: str) -> None:
    assert MessageRefused(condition, "").code == code
