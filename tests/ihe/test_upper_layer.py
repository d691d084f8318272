"""PS3.8's state machine against pynetdicom's, and the cutting of PDUs, however the bytes arrive."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import fsm as oracle

from ihe.pdu import P_DATA_TF, PduError
from ihe.upper_layer import ACTIONS, MAX_PDU, TABLE, Event, Fragment, ImpossibleEvent, Machine, PduReader, State, Whole

LONGEST = 1 << 20


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_cell_of_table_9_10_is_pynetdicoms(event: Event, state: State) -> None:
    assert TABLE.get((event, state)) == oracle.TRANSITION_TABLE.get((f"Evt{event.value}", f"Sta{state.value}"))


@pytest.mark.parametrize("name", ACTIONS)
def test_the_next_state_of_every_action_is_pynetdicoms(name: str) -> None:
    following = oracle.ACTIONS[name][2]
    states = following if isinstance(following, tuple) else (following,)
    assert f"Sta{ACTIONS[name][1].value}" == states[0]


def test_actions_with_two_next_states() -> None:
    for requestor, state in ((True, State.COLLISION_REQUESTOR_AWAITS_LOCAL), (False, State.COLLISION_ACCEPTOR_AWAITS_PDU)):
        machine = Machine(requestor=requestor)
        machine.state = State.AWAITING_RELEASE_RESPONSE
        machine.step(Event.RELEASE_REQUEST_PDU)
        assert machine.state is state
    machine = Machine(requestor=False)
    machine.step(Event.CONNECTION_INDICATION)
    machine.step(Event.REQUEST_PDU, acceptable=False)
    assert machine.state is State.AWAITING_CLOSE


def test_a_blank_cell_is_a_slip() -> None:
    with pytest.raises(ImpossibleEvent, match="DATA_REQUEST in IDLE"):
        Machine(requestor=True).step(Event.DATA_REQUEST)


@given(st.booleans(), st.lists(st.sampled_from(Event), max_size=30))
def test_whatever_happens_the_machine_is_in_a_state(requestor: bool, events: list[Event]) -> None:
    machine = Machine(requestor=requestor)
    for event in events:
        try:
            machine.step(event)
        except ImpossibleEvent:
            assert (event, machine.state) not in TABLE
        assert machine.state in State


# --- PDUs

VALUES = st.tuples(st.integers(1, 255), st.integers(0, 3), st.binary(max_size=50))
PDUS = st.lists(
    st.lists(VALUES, min_size=1, max_size=4) | st.tuples(st.sampled_from([1, 2, 3, 5, 6, 7]), st.binary(max_size=80)), max_size=6
)


def p_data(items: list[tuple[int, int, bytes]]) -> bytes:
    body = b"".join(struct.pack(">LBB", len(value) + 2, context, control) + value for context, control, value in items)
    return struct.pack(">BxL", P_DATA_TF, len(body)) + body


def read(reader: PduReader, pieces: list[bytes]) -> list[tuple[int, bool, bool, bytes] | tuple[int, bytes]]:
    """What comes out, the fragments of one PDV put together."""
    found: list[tuple[int, bool, bool, bytes] | tuple[int, bytes]] = []
    open_ = b""
    left = 0
    for piece in pieces:
        reader.feed(memoryview(piece))
        while (each := reader.next()) is not None:
            if isinstance(each, Whole):
                found.append((each.kind, each.body))
                continue
            open_ += each.data
            left = reader._value_left
            if left < 0:
                found.append((each.context_id, each.command, each.last, open_))
                open_ = b""
            else:
                assert not each.last, "last is said of the last piece only"
    return found


@given(PDUS, st.data())
def test_however_the_bytes_arrive_the_same_comes_out(pdus: list[object], data: st.DataObject) -> None:
    stream, expected = b"", []
    for each in pdus:
        if isinstance(each, list):
            stream += p_data(each)
            expected += [(context, bool(control & 1), bool(control & 2), value) for context, control, value in each]
        else:
            assert isinstance(each, tuple)
            stream += struct.pack(">BxL", each[0], len(each[1])) + each[1]
            expected.append(each)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(PduReader(LONGEST), pieces) == expected
    assert read(PduReader(LONGEST), [bytes((byte,)) for byte in stream]) == expected


def test_values_are_not_copied() -> None:
    buffer = bytearray(p_data([(1, 2, b"abc")]))
    reader = PduReader(LONGEST)
    reader.feed(memoryview(buffer))
    found = reader.next()
    assert isinstance(found, Fragment)
    assert found.data.obj is buffer


BROKEN = {
    "no type": b"\x00\x00\x00\x00\x00\x04",
    "HTTP": b"GET / ",
    "an A-ASSOCIATE-RQ of 4 GiB": struct.pack(">BxL", 1, 0xFFFFFFFF),
    "a PDU one byte too long": struct.pack(">BxL", 2, MAX_PDU + 1),
    "P-DATA-TF of 4 GiB": struct.pack(">BxL", 4, 0xFFFFFFFF),
    "P-DATA-TF one byte too long": struct.pack(">BxL", 4, LONGEST + 1),
    "P-DATA-TF of nothing": struct.pack(">BxL", 4, 0),
    "P-DATA-TF too short for an item": struct.pack(">BxL", 4, 5),
    "an item longer than its PDU": struct.pack(">BxLLBB", 4, 6, 3, 1, 0),
    "an item of 4 GiB": struct.pack(">BxLLBB", 4, 12, 0xFFFFFFFF, 1, 0),
    "an item of length 0": struct.pack(">BxLLBB", 4, 6, 0, 1, 0),
    "an item of length 1": struct.pack(">BxLLBB", 4, 6, 1, 1, 0),
    "a PDU that goes on behind its items": struct.pack(">BxLLBB", 4, 8, 2, 1, 0),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_length_that_cannot_be_is_told_at_once(broken: bytes) -> None:
    reader = PduReader(LONGEST)
    with pytest.raises(PduError):
        read(reader, [broken])


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_is_refused_or_cut(pieces: list[bytes]) -> None:
    with contextlib.suppress(PduError):
        read(PduReader(LONGEST), pieces)
