"""MLLP framing: blocks in any pieces, what stands between them, and limits."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.mllp import CR, FS, VT, Block, Blocks, framed

CONTENT = st.binary(max_size=40).map(lambda each: each.replace(VT, b"").replace(FS, b""))
STRAY = st.sampled_from([b"", CR, b"\r\n", b"noise", FS + CR])


def _received(blocks: Blocks, data: bytes, cuts: list[int]) -> list[Block]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [each for start, end in pairwise(places) for each in blocks.receive(data[start:end])]


@given(st.lists(st.tuples(STRAY, CONTENT)), st.lists(st.integers(0, 1000)))
def test_blocks_come_out_as_they_went_in_however_they_are_cut(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(stray + framed(content) for stray, content in sent)
    assert _received(Blocks(100), data, cuts) == [Block(content) for _, content in sent]


@given(st.binary(), st.lists(st.integers(0, 1000)), st.integers(1, 50))
def test_any_bytes_give_blocks_within_the_limit_and_then_a_whole_one_is_found(data: bytes, cuts: list[int], limit: int) -> None:
    blocks = Blocks(limit)
    found = _received(blocks, data, cuts)
    assert all(len(each.content) <= limit for each in found)
    assert found == Blocks(limit).receive(data), "pieces make no difference"
    assert blocks.receive(FS + framed(b"x"))[-1] == Block(b"x")


@pytest.mark.parametrize("mark", [VT, FS])
def test_a_message_with_a_mark_in_it_is_not_sent(mark: bytes) -> None:
    with pytest.raises(ValueError, match="VT nor FS"):
        framed(b"a" + mark)


def test_of_a_block_that_is_too_long_the_beginning_is_kept() -> None:
    blocks = Blocks(5000)
    for _ in range(1000):
        assert blocks.receive(VT + b"MSH|" + b"x" * 5000) == []
        assert blocks.receive(b"y" * 10_000) == []
    (cut,) = blocks.receive(FS + CR)
    assert (cut.is_cut, len(cut.content), cut.content[:5]) == (True, 1024, b"MSH|x")
    assert blocks.receive(framed(b"y" * 5000)) == [Block(b"y" * 5000)]


def test_what_stands_outside_of_blocks_is_counted() -> None:
    blocks = Blocks(10)
    blocks.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert (blocks.stray, blocks.is_open) == (14, False)
    blocks.receive(framed(b"a"))
    assert blocks.stray == 0, "of what comes behind a block only"
    blocks.receive(VT + b"b")
    assert blocks.is_open
