"""A-ASSOCIATE, A-RELEASE and A-ABORT: there and back, and as pynetdicom reads and writes them."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as oracle

from ihe import pdu
from ihe.pdu import (
    Abort,
    AnsweredContext,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    CommonExtended,
    Extended,
    PduError,
    ProposedContext,
    ReleaseRequest,
    ReleaseResponse,
    Role,
    UserIdentity,
    UserInformation,
    decode,
    encode,
)

UIDS = st.lists(st.integers(0, 10**6), min_size=2, max_size=6).map(lambda parts: ".".join(map(str, parts)))
TITLES = st.text("ABCXYZ_09", min_size=1, max_size=16)
IDS = st.integers(0, 127).map(lambda number: 2 * number + 1)
SHORT = st.binary(min_size=1, max_size=40)
USERS = st.builds(
    UserInformation,
    max_length=st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=UIDS,
    implementation_version_name=st.just("") | TITLES,
    operations=st.none() | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    roles=st.lists(st.builds(Role, UIDS, st.booleans(), st.booleans()), max_size=3).map(tuple),
    extended=st.lists(st.builds(Extended, UIDS, SHORT), max_size=3).map(tuple),
)
ASKING = st.builds(
    lambda user, common, identity: UserInformation(
        **{name: getattr(user, name) for name in ("max_length", "implementation_class_uid", "implementation_version_name",
                                                  "operations", "roles", "extended")},
        common_extended=common, identity=identity,
    ),
    USERS,
    st.lists(st.builds(CommonExtended, UIDS, UIDS, st.lists(UIDS, max_size=2).map(tuple)), max_size=2).map(tuple),
    st.none() | st.builds(UserIdentity, st.integers(1, 5), SHORT, st.just(b""), st.booleans()),
)  # fmt: skip
PROPOSED = st.lists(
    st.builds(ProposedContext, IDS, UIDS, st.lists(UIDS, min_size=1, max_size=3).map(tuple)), max_size=4, unique_by=lambda c: c.id
)
REQUESTS = st.builds(AssociateRequest, called=TITLES, calling=TITLES, contexts=PROPOSED.map(tuple), user=ASKING)
ACCEPTS = st.builds(
    AssociateAccept,
    called=TITLES,
    calling=TITLES,
    contexts=st.lists(st.builds(AnsweredContext, IDS, st.integers(0, 4), UIDS), max_size=4).map(tuple),
    user=USERS,
)


def _back(encoded: bytes) -> pdu.Pdu:
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    return decode(encoded[0], encoded[6:])


@given(REQUESTS | ACCEPTS)
def test_what_is_written_is_read(made: AssociateRequest | AssociateAccept) -> None:
    assert _back(encode(made)) == made


@pytest.mark.parametrize("made", [AssociateReject(1, 1, 3), ReleaseRequest(), ReleaseResponse(), Abort(2, 6), Abort()])
def test_the_short_ones(made: pdu.Pdu) -> None:
    kinds: dict[type, Callable[[], oracle.PDU]] = {
        AssociateReject: oracle.A_ASSOCIATE_RJ, ReleaseRequest: oracle.A_RELEASE_RQ, ReleaseResponse: oracle.A_RELEASE_RP,
        Abort: oracle.A_ABORT_RQ,
    }  # fmt: skip
    encoded = encode(made)
    assert _back(encoded) == made
    read = kinds[type(made)]()
    read.decode(encoded)
    assert read.encode() == encoded


@given(REQUESTS)
def test_pynetdicom_reads_and_writes_the_same_request(made: AssociateRequest) -> None:
    read = oracle.A_ASSOCIATE_RQ()
    read.decode(encode(made))
    assert (read.called_ae_title.strip(), read.calling_ae_title.strip()) == (made.called, made.calling)
    assert [(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax)) for c in read.presentation_context] == [
        (c.id, c.abstract_syntax, c.transfer_syntaxes) for c in made.contexts
    ]
    assert _back(read.encode()) == made


@given(ACCEPTS)
def test_pynetdicom_reads_and_writes_the_same_acceptance(made: AssociateAccept) -> None:
    read = oracle.A_ASSOCIATE_AC()
    read.decode(encode(made))
    assert [(c.context_id, c.result) for c in read.presentation_context] == [(c.id, c.result) for c in made.contexts]
    again = _back(read.encode())
    assert isinstance(again, AssociateAccept)
    assert (again.user, [c.result for c in again.contexts]) == (made.user, [c.result for c in made.contexts])


@given(REQUESTS, st.data())
def test_a_length_that_lies_is_refused(made: AssociateRequest, data: st.DataObject) -> None:
    encoded = encode(made)[6:]
    at = data.draw(st.integers(0, len(encoded) - 1))
    try:
        decode(pdu.ASSOCIATE_RQ, encoded[:at])
    except PduError:
        return
    items = {68, *(_ends(encoded))}
    assert at in items, "only what ends with an item can be read"


def _ends(encoded: bytes) -> list[int]:
    at, ends = 68, []
    while at < len(encoded):
        at += 4 + int.from_bytes(encoded[at + 2 : at + 4], "big")
        ends.append(at)
    return ends


@given(st.sampled_from(range(9)), st.binary(max_size=300))
def test_garbage_is_refused_or_a_pdu(kind: int, body: bytes) -> None:
    for data in (body, bytes(68) + body, bytes(68) + b"\x50\x00" + len(body).to_bytes(2, "big") + body):
        with contextlib.suppress(PduError):
            decode(kind, data)


@given(REQUESTS, st.integers(0x60, 0xFF), st.binary(max_size=20))
def test_unknown_items_are_passed_over(made: AssociateRequest, kind: int, value: bytes) -> None:
    item = bytes((kind, 0)) + len(value).to_bytes(2, "big") + value
    assert decode(pdu.ASSOCIATE_RQ, encode(made)[6:] + item) == made


@pytest.mark.parametrize(
    "broken",
    [
        b"\x20\x00\x00\x04\x02\x00\x00\x00",  # an even id
        b"\x20\x00\x00\x04\x01\x00\x00\x00",  # no abstract syntax
        b"\x20\x00\x00\x0b\x01\x00\x00\x00\x30\x00\x00\x031.2" * 2,  # one id twice
        b"\x10\x00\xff\xff",
        b"\x50\x00\x00\x08\x51\x00\x00\x02\x00\x00\x00\x00",  # a length that ends its own field
        b"\x50\x00\x00\x08\x54\x00\x00\x04\x00\xff1.",
    ],
)
def test_what_breaks_a_rule_is_refused(broken: bytes) -> None:
    with pytest.raises(PduError):
        decode(pdu.ASSOCIATE_RQ, bytes(68) + broken)


def test_what_does_not_fit_is_not_sent() -> None:
    with pytest.raises(PduError):
        encode(
            AssociateRequest(
                called="A", calling="B", contexts=(), user=UserInformation(extended=(Extended("1.2", bytes(1 << 16)),))
            )
        )


def test_an_identity_is_not_shown() -> None:
    assert "s3cret" not in repr(UserInformation(identity=UserIdentity(2, b"name", b"s3cret")))


def test_reasons_in_words() -> None:
    assert AssociateReject(1, 1, 7).words == "called AE title not recognized (for good)"
    assert AssociateReject(2, 3, 9).words == "source 3, reason 9 (for now)"
    assert Abort(2, 6).words == "it found an invalid PDU parameter value"
