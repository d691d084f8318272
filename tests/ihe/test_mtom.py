import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe import mtom
from ihe.mtom import Attachment, MtomError, Reader, Root
from ihe.multipart import End, MultipartError, PartData, PartEnd, PartStart

TYPE = mtom.content_type("b", "urn:action")


def message(root: bytes, bodies: list[bytes], boundary: str = "b") -> bytes:
    attachments = [Attachment(f"{number}@x", "application/dicom", len(body)) for number, body in enumerate(bodies)]
    data = b"".join(mtom.chunks(root, attachments, lambda attachment: (bodies[attachments.index(attachment)],), boundary))
    assert len(data) == mtom.content_length(root, attachments, boundary)
    return data


@given(st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=3), st.integers(1, 50))
def test_round_trip_in_pieces(root: bytes, bodies: list[bytes], size: int) -> None:
    boundary = "0123456789abcdef0123456789abcdef"
    data = message(root, bodies, boundary)
    reader = Reader(mtom.content_type(boundary, "urn:action"))
    events = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
    reader.close()
    assert events[0] == Root(root)
    assert events[-1] == End()
    found: list[bytes] = []
    for event in events[1:-1]:
        match event:
            case PartStart():
                assert event.content_id == f"{len(found)}@x"
                assert event.content_type == "application/dicom"
                found.append(b"")
            case PartData(piece):
                found[-1] += bytes(piece)
            case _:
                assert event == PartEnd()
    assert found == bodies


def test_every_cut_off_message_is_refused() -> None:
    data = message(b"<root/>", [b"image"])
    # The closing boundary is complete two bytes before the end, where only a line break follows.
    for length in range(len(data) - 2):
        reader = Reader(TYPE)
        reader.feed(data[:length])
        with pytest.raises(MultipartError, match="cut off"):
            reader.close()


def part(headers: str, body: str = "x") -> str:
    return f"--b\r\n{headers}\r\n\r\n{body}\r\n"


ROOT = part("Content-ID: <root@imageshare>")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("--b--", "no root part"),
        (part("Content-ID: <1@x>"), "must be the root part"),
        (ROOT + part("Content-Type: application/dicom"), "no Content-ID"),
        (ROOT + part("Content-ID: <1@x>") * 2, "same Content-ID"),
        (ROOT + part("Content-ID: <1@x>\r\nContent-Transfer-Encoding: base64"), "must be binary"),
        (part("Content-ID: <root@imageshare>", "x" * 11), "more than 10 bytes"),
    ],
)
def test_broken_messages_are_refused(data: str, reason: str) -> None:
    with pytest.raises(MtomError, match=reason):
        Reader(TYPE, root_limit=10).feed(data.encode())


@pytest.mark.parametrize(
    "content_type", ["multipart/related; type=text/xml; boundary=b", "multipart/related; type=application/xop+xml"]
)
def test_wrong_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(MultipartError):
        Reader(content_type)


def test_cxf_style_message() -> None:
    content_type = (
        'multipart/related; type="application/xop+xml"; boundary="uuid:1"; start="<root.message@cxf.apache.org>"; '
        'start-info="application/soap+xml"; action="urn:x"'
    )
    data = (
        b"\r\n--uuid:1\r\nContent-Type: application/xop+xml; charset=UTF-8\r\nContent-Transfer-Encoding: binary\r\n"
        b"Content-ID: <root.message@cxf.apache.org>\r\n\r\n<e/>\r\n--uuid:1--"
    )
    reader = Reader(content_type)
    assert reader.feed(data) == [Root(b"<e/>"), End()]


@given(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1))
def test_href_round_trip(content_id: str) -> None:
    assert mtom.content_id_of(mtom.href(content_id)) == content_id


def test_href_of_another_kind_is_refused() -> None:
    with pytest.raises(MtomError):
        mtom.content_id_of("file:///etc/passwd")
