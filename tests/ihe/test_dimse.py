"""Command Sets: there and back, and as pydicom reads and writes them."""

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as pydicom_decode
from pynetdicom.dsutils import encode as pydicom_encode

from ihe.dimse import Command, CommandField, DimseError, decode, encode

UIDS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).map(lambda parts: ".".join(map(str, parts)))
TITLES = st.text("ABCXYZ_09", min_size=1, max_size=16)
NUMBERS = st.integers(0, 0xFFFF)
TAGS = st.lists(st.integers(0, 0xFFFFFFFF), max_size=5).map(tuple)
COMMANDS = st.builds(
    Command,
    field=st.sampled_from(CommandField).map(int),
    message_id=st.none() | NUMBERS,
    responded_to=st.none() | NUMBERS,
    affected_sop_class_uid=st.just("") | UIDS,
    affected_sop_instance_uid=st.just("") | UIDS,
    requested_sop_class_uid=st.just("") | UIDS,
    requested_sop_instance_uid=st.just("") | UIDS,
    priority=st.none() | st.integers(0, 2),
    has_data_set=st.booleans(),
    status=st.none() | NUMBERS,
    offending_elements=TAGS,
    error_comment=st.just("") | st.text("abc XYZ", max_size=64).map(str.strip),
    error_id=st.none() | NUMBERS,
    event_type_id=st.none() | NUMBERS,
    action_type_id=st.none() | NUMBERS,
    attribute_identifiers=TAGS,
    move_destination=st.just("") | TITLES,
    move_originator=st.just("") | TITLES,
    move_originator_message_id=st.none() | NUMBERS,
    remaining=st.none() | NUMBERS,
    completed=st.none() | NUMBERS,
    failed=st.none() | NUMBERS,
    warning=st.none() | NUMBERS,
)


@given(COMMANDS)
def test_a_command_comes_back(command: Command) -> None:
    assert decode(encode(command)) == command
    assert len(encode(command)) % 2 == 0


@given(COMMANDS)
def test_pydicom_reads_and_writes_the_same(command: Command) -> None:
    encoded = encode(command)
    read = pydicom_decode(BytesIO(encoded), True, True)
    assert read.CommandGroupLength == len(encoded) - 12
    assert read.CommandField == command.field
    assert (read.CommandDataSetType != 0x0101) == command.has_data_set
    assert read.get("AffectedSOPInstanceUID", "") == command.affected_sop_instance_uid
    assert read.get("MessageID") == command.message_id
    again = pydicom_encode(read, True, True)
    assert again is not None
    assert decode(again) == command


@given(COMMANDS, st.data())
def test_what_is_cut_off_is_refused(command: Command, data: st.DataObject) -> None:
    encoded = encode(command)
    at = data.draw(st.integers(1, len(encoded) - 1))
    try:
        found = decode(encoded[:at])
    except DimseError:
        return
    assert found.field == command.field, "cut between two elements: what is there is as it was"


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_a_command(data: bytes) -> None:
    with contextlib.suppress(DimseError):
        assert isinstance(decode(data), Command)


def test_what_an_older_peer_adds_is_passed_over() -> None:
    made = Dataset()
    made.CommandField, made.MessageID, made.CommandDataSetType = 0x0030, 7, 0x0101
    made.add_new(0x00000001, "UL", 90)  # Command Length to End, retired
    made.add_new(0x00000010, "SH", "ACR-NEMA")
    encoded = pydicom_encode(made, True, True)
    assert encoded is not None
    assert decode(encoded) == Command(field=0x0030, message_id=7)


@pytest.mark.parametrize(
    ("field", "response"), [(CommandField.C_STORE_RSP, True), (CommandField.C_CANCEL_RQ, False), (CommandField.N_SET_RQ, False)]
)
def test_which_commands_are_responses(field: CommandField, response: bool) -> None:
    assert Command(field=field).is_response is response
