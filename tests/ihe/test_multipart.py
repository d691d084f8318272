from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe import multipart
from ihe.multipart import End, MultipartError, Part, PartData, PartEnd, PartStart, Splitter

BOUNDARY = "-bound"

# Bytes that like to look like a boundary.
tricky = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n---boun", b"--bound", b"x", b"\x00\xff", b"\r\n\r\n"]),
    max_size=12,
).map(b"".join)
bodies = st.one_of(st.binary(max_size=40), tricky).filter(lambda body: b"\r\n---bound" not in b"\r\n" + body + b"\r\n")
headers = st.dictionaries(st.sampled_from(["content-type", "content-id", "x-other"]), st.sampled_from(["a", "b; c=d", ""]))


def split(pieces: list[bytes], boundary: bytes = BOUNDARY.encode()) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a body that arrives in `pieces`, checking the order of events on the way."""
    splitter = Splitter(boundary)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    splitter.close()
    parts: list[tuple[dict[str, str], bytes]] = []
    inside = False
    for event in events:
        match event:
            case PartStart(found):
                assert not inside
                parts.append((dict(found), b""))
                inside = True
            case PartData(data):
                assert inside
                assert len(data) > 0
                parts[-1] = (parts[-1][0], parts[-1][1] + bytes(data))
            case PartEnd():
                assert inside
                inside = False
            case End():
                assert not inside
                assert event is events[-1]
    return parts


def write(parts: list[tuple[dict[str, str], bytes]]) -> bytes:
    queue = [body for _, body in parts]
    return b"".join(
        multipart.chunks(BOUNDARY, [Part(found, len(body)) for found, body in parts], lambda part: iter((queue.pop(0),)))
    )


@given(st.lists(st.tuples(headers, bodies), max_size=4), st.lists(st.integers(1, 30), max_size=30))
def test_what_is_written_is_read_however_it_is_cut(parts: list[tuple[dict[str, str], bytes]], sizes: list[int]) -> None:
    message = write(parts)
    assert len(message) == multipart.content_length(BOUNDARY, [Part(found, len(body)) for found, body in parts])
    pieces, rest = [], message
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert split([*pieces, rest]) == parts


def test_every_split_into_two_and_byte_by_byte() -> None:
    parts = [({"content-type": "a"}, b"\r\n--\r\n---boun"), ({}, b""), ({"content-id": "<x>"}, b"\r")]
    message = b"preamble\r\n--not" + b"\r\n" + write(parts) + b"epilogue\r\n---bound\r\n"
    for cut in range(len(message) + 1):
        assert split([message[:cut], message[cut:]]) == parts
    assert split([message[at : at + 1] for at in range(len(message))]) == parts


BY_LINE_FEEDS = st.lists(
    st.tuples(headers, bodies.filter(lambda body: b"\n---bound" not in b"\n" + body + b"\n")), min_size=1, max_size=4
)


@given(BY_LINE_FEEDS, st.lists(st.integers(1, 30), max_size=30))
def test_a_body_with_bare_line_feeds_is_read_where_its_first_boundary_has_one(
    parts: list[tuple[dict[str, str], bytes]], sizes: list[int]
) -> None:
    """The messages of NIST's toolkit tests PnrXop are text files. What is within a part stays as it is."""
    message = b"\n" + b"".join(
        b"---bound\n" + "".join(f"{name}: {value}\n" for name, value in found.items()).encode() + b"\n" + body + b"\n"
        for found, body in parts
    )
    pieces, rest = [], message + b"---bound--\n"
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert split([*pieces, rest]) == parts


def test_data_is_handed_on_as_a_view_of_what_was_fed() -> None:
    splitter = Splitter(b"b")
    assert splitter.feed(b"--b\r\n\r\nx") == [PartStart({}), PartData(memoryview(b"x"))]
    chunk = bytes(100_000)
    (event,) = splitter.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data.obj is chunk


def test_a_part_without_body_shares_its_line_break_with_the_boundary() -> None:
    message = b"--b\r\nX: y\r\n\r\n--b\r\n\r\nbody\r\n--b--"
    for cut in range(len(message) + 1):
        assert split([message[:cut], message[cut:]], b"b") == [({"x": "y"}, b""), ({}, b"body")]


def test_headers_are_unfolded_and_lower_case_and_the_first_counts() -> None:
    [(found, _)] = split([b"--b \t\r\nContent-ID : <a\r\n  b>\r\ncontent-id: second\r\n\r\n\r\n--b--\r\n"], b"b")
    assert found == {"content-id": "<a b>"}
    assert PartStart(found).content_id == "a b"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "cut off"),
        (b"--b\r\nX: y\r\n\r\nbody", "cut off"),
        (b"--b\r\nX: y\r\n\r\nbody\r\n--b\r\n", "cut off"),
        (b"--b\r\nX: y\r\n\r\nbody\r\n--b-", "cut off"),
        (b"--other\r\n\r\nbody\r\n--other--", "cut off"),
        (b"--other\r\n\r\n" + bytes(70_000) + b"\r\n--other--", "does not contain the boundary"),
        (b"--bc\r\n\r\n\r\n--b--", "other text on its line"),
        (b"--b" + b" " * 2_000, "does not end"),
        (b"--b\r\nno colon\r\n\r\n\r\n--b--", "not `name: value`"),
        (b"--b\r\nX: " + b"y" * 20_000 + b"\r\n\r\n\r\n--b--", "bytes of headers"),
        (b"--b\r\nX: " + b"y" * 20_000, "bytes of headers"),
        (b"\r\n--b\r\n\r\n" * 4 + b"\r\n--b--", "more than 3 parts"),
    ],
)
def test_broken_bodies_are_refused(message: bytes, reason: str) -> None:
    splitter = Splitter(b"b", part_limit=3)

    def read() -> None:
        splitter.feed(message)
        splitter.close()

    with pytest.raises(MultipartError, match=reason):
        read()


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', b"abc"),
        ("Multipart/Related; type=application/dicom; BOUNDARY=abc", b"abc"),
        ('multipart/related;boundary="a;b=c d"; type="x;y"', None),
        ('multipart/related;boundary="a:b=c d"; type="x;y"', b"a:b=c d"),
        ('multipart/related; boundary="uuid:0ca7eb71"; start="<root.message@cxf.apache.org>"', b"uuid:0ca7eb71"),
        ("multipart/related", None),
        ('multipart/related; boundary=""', None),
        ("multipart/related; boundary=" + "a" * 73, b"a" * 73),  # as Orthanc has it
        ("multipart/related; boundary=" + "a" * 201, None),
        ("multipart/related; boundary=é", None),
        ("application/dicom; boundary=abc", None),
        ("", None),
    ],
)
def test_boundary_of(content_type: str, boundary: bytes | None) -> None:
    if boundary is None:
        with pytest.raises(MultipartError):
            multipart.boundary_of(content_type)
    else:
        assert multipart.boundary_of(content_type) == boundary


@given(st.text(st.characters(codec="latin-1")))
def test_any_content_type_is_read_or_refused(text: str) -> None:
    with suppress(MultipartError):
        multipart.boundary_of("multipart/related; " + text)


def test_media_type_keeps_quoted_separators() -> None:
    parsed = multipart.media_type('Application/SOAP+xml; Action="urn:a;b"; charset=utf-8')
    assert parsed.type == "application/soap+xml"
    assert parsed.parameters == {"action": "urn:a;b", "charset": "utf-8"}


def test_what_is_said_of_a_body_is_what_is_read() -> None:
    written = multipart.content_type("b", "application/dicom", start_info="x")
    assert written == 'multipart/related; type="application/dicom"; boundary="b"; start-info="x"'
    assert multipart.boundary_of(written) == b"b"


@pytest.mark.parametrize("given_bytes", [b"", b"ab", b"abcd"])
def test_a_part_must_have_the_size_that_was_promised(given_bytes: bytes) -> None:
    with pytest.raises(MultipartError, match="a part of 3 bytes"):
        list(multipart.chunks("b", [Part({}, 3)], lambda part: (given_bytes,)))


def test_a_header_cannot_smuggle_a_line() -> None:
    with pytest.raises(MultipartError):
        multipart.opening("b", {"Content-Location": "a\r\nX: y"})
