"""`server.association.sending`: what goes out is what was handed in, in PDVs of even length that fit."""

from struct import unpack_from

from hypothesis import example, given
from hypothesis import strategies as st

from server.association.sending import longest_sent, pdus


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 60))
@example([b"abc", b"", b"d"], 14)
@example([b"abc"], 15)
@example([], 0)
def test_fragments_are_even_and_joined_are_the_data_set(pieces: list[bytes], announced: int) -> None:
    longest = longest_sent(announced)
    stream = b"".join(pdus(1, b"command!", pieces, longest))
    found = {0: b"", 1: b""}
    controls = []
    while stream:
        length, inside, context_id, control = unpack_from(">xxLLBB", stream)
        assert (context_id, inside, length % 2) == (1, length - 4, 0)
        assert length <= longest
        found[control & 1] += stream[12 : 6 + length]
        controls.append(control)
        stream = stream[6 + length :]
    data = b"".join(pieces)
    assert found == {1: b"command!", 0: data + b"\0" * (len(data) % 2)}
    assert [control for control in controls if control & 2] == [3, 2] == [*controls[: controls.index(3) + 1], controls[-1]][-2:]
