"""Syslog messages of ITI-20, and frames on a stream."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe import syslog
from ihe.syslog import FramingError


def made(content: bytes = b"<AuditMessage/>", **given: object) -> bytes:
    values = {
        "moment": "2026-01-08T12:00:00.000Z",
        "host": "images.example.org",
        "application": "imageshare",
        "process": "17",
        **given,
    }
    return syslog.message(content, **values)  # type: ignore[arg-type]


def test_a_message_is_as_iti_20_has_it() -> None:
    """ITI TF-2 section 3.20.4.1.2: PRI 85, MSGID, no structured data, no BOM."""
    assert made() == b"<85>1 2026-01-08T12:00:00.000Z images.example.org imageshare 17 IHE+RFC-3881 - <AuditMessage/>"
    assert made(priority=syslog.WARNING).startswith(b"<84>1 ")
    assert made("ü".encode()).endswith(b" - \xc3\xbc")


@given(st.text(max_size=300), st.text(max_size=300))
def test_fields_are_what_rfc_5424_lets_them_be(host: str, application: str) -> None:
    header = made(b"", host=host, application=application).decode("ascii")
    fields = header.split(" ")
    assert len(fields) == 8
    assert re.fullmatch(r"[\x21-\x7e]{1,255}", fields[2])
    assert re.fullmatch(r"[\x21-\x7e]{1,48}", fields[3])


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.integers(0, 400))
def test_frames_are_read_whole_wherever_the_stream_is_cut(messages: list[bytes], cut: int) -> None:
    stream = b"".join(map(syslog.frame, messages))
    first, rest = syslog.frames(stream[:cut])
    second, left = syslog.frames(rest + stream[cut:])
    assert ([*first, *second], left) == (messages, b"")


@pytest.mark.parametrize("data", [b"<85>1 x", b"x", b"05 abcde", b" 5 abcde", b"123456789012 x", b"-1 x"])
def test_what_is_no_frame(data: bytes) -> None:
    with pytest.raises(FramingError):
        syslog.frames(data)
