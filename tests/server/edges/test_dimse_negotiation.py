"""What an association is about: contexts, roles, permissions, extended negotiation and the window, as functions of the request."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.imageshare import node
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ihe import pdu
from ihe.pdu import AssociateRequest, Extended, ProposedContext, Role, UserInformation
from server.edges.dimse.negotiation import WINDOW, Rejection, agreed, judged
from server.edges.dimse.service import Service
from server.settings import EVERY_PERMISSION, Device, Permission

FIND, COMMIT = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1"
JPEG = "1.2.840.10008.1.2.4.50"
SERVICES = {
    FIND: Service(
        name="find", permission="query", abstract_syntaxes=frozenset({FIND}), commands={},
        extended=lambda _, asked: asked[:1] if asked else None,
    ),
    COMMIT: Service(
        name="commit", permission="commit", abstract_syntaxes=frozenset({COMMIT}), commands={}, requestor_may_be_scp=True
    ),
}  # fmt: skip
PERMISSIONS = st.sets(st.sampled_from(sorted(EVERY_PERMISSION))).map(frozenset)
SYNTAXES = st.lists(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG, "1.2.3"]), min_size=1, max_size=3)
NAMES = st.sampled_from([FIND, COMMIT, CTImageStorage, "1.2.840.10008.5.1.4.38.1"])
CONTEXTS = st.lists(
    st.builds(ProposedContext, st.integers(0, 127).map(lambda n: 2 * n + 1), NAMES, SYNTAXES.map(tuple)), max_size=6,
    unique_by=lambda each: each.id,
)  # fmt: skip
ROLES = st.lists(st.builds(Role, NAMES, st.booleans(), st.booleans()), max_size=4, unique_by=lambda each: each.sop_class)


def device(*permissions: Permission) -> Device:
    return Device(ae_title="SCANNER", address="10.0.0.1", permissions=frozenset(permissions))


def asked(*contexts: ProposedContext, **user: object) -> AssociateRequest:
    return AssociateRequest(called="US", calling="SCANNER", contexts=contexts, user=UserInformation(**user))  # type: ignore[arg-type]


@given(CONTEXTS, ROLES, PERMISSIONS)
def test_nothing_is_granted_that_was_not_asked_for_and_allowed(
    contexts: list[ProposedContext], roles: list[Role], permissions: frozenset[Permission]
) -> None:
    found = agreed(asked(*contexts, roles=tuple(roles)), device(*permissions), SERVICES)
    assert [each.id for each in found.answer.contexts] == [each.id for each in contexts]
    proposals = {each.id: each for each in contexts}
    wanted = {each.sop_class: each for each in roles}
    assert {each.id for each in found.answer.contexts if each.result == 0} == set(found.contexts)
    for context in found.contexts.values():
        proposal = proposals[context.id]
        assert context.transfer_syntax in proposal.transfer_syntaxes
        assert context.transfer_syntax != "1.2.3"
        role = wanted.get(context.abstract_syntax, Role("", scu=True, scp=False))
        assert (context.scu <= role.scu, context.scp <= role.scp) == (True, True)
        assert context.scu or context.scp
        needed = {FIND: ("query", ""), COMMIT: ("commit", "commit"), CTImageStorage: ("store", "retrieve")}
        as_scu, as_scp = needed[context.abstract_syntax]
        assert not context.scu or as_scu in permissions
        assert not context.scp or as_scp in permissions
    for role in found.answer.user.roles:
        assert role.sop_class in wanted
        assert role.scu <= wanted[role.sop_class].scu
        assert role.scp <= wanted[role.sop_class].scp


@pytest.mark.parametrize(
    ("context", "permissions", "result"),
    [
        (ProposedContext(1, CTImageStorage, (JPEG,)), ("store",), pdu.ACCEPTANCE),
        (ProposedContext(1, CTImageStorage, (JPEG,)), ("query",), pdu.USER_REJECTION),
        (ProposedContext(1, CTImageStorage, ("1.2.3",)), ("store",), pdu.TRANSFER_SYNTAXES_NOT_SUPPORTED),
        (ProposedContext(1, FIND, (JPEG,)), ("query",), pdu.TRANSFER_SYNTAXES_NOT_SUPPORTED),
        (ProposedContext(1, FIND, (ImplicitVRLittleEndian,)), ("store",), pdu.USER_REJECTION),
        (ProposedContext(1, "1.2.840.10008.5.1.4.38.1", (JPEG,)), ("store",), pdu.ABSTRACT_SYNTAX_NOT_SUPPORTED),
    ],
)
def test_results(context: ProposedContext, permissions: tuple[Permission, ...], result: int) -> None:
    (answer,) = agreed(asked(context), device(*permissions), SERVICES).answer.contexts
    assert answer.result == result


def test_identifiers_are_in_the_syntax_that_the_service_wants_most_images_in_the_first_that_the_peer_has() -> None:
    both = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    found = agreed(
        asked(ProposedContext(1, FIND, both), ProposedContext(3, CTImageStorage, both)), device("query", "store"), SERVICES
    )
    assert [each.transfer_syntax for each in found.answer.contexts] == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def test_roles_and_extended_negotiation_are_answered() -> None:
    request = asked(
        ProposedContext(1, CTImageStorage, (ExplicitVRLittleEndian,)),
        ProposedContext(3, FIND, (ExplicitVRLittleEndian,)),
        ProposedContext(5, COMMIT, (ExplicitVRLittleEndian,)),
        roles=(
            Role(CTImageStorage, scu=False, scp=True), Role(FIND, scu=True, scp=True), Role(COMMIT, scu=False, scp=True),
            Role("1.2", scu=True, scp=True),
        ),
        extended=(Extended(FIND, b"\1\1"), Extended(COMMIT, b"\1"), Extended("1.2", b"\1")),
    )  # fmt: skip
    found = agreed(request, device("retrieve", "query", "commit"), SERVICES)
    assert found.answer.user.roles == (
        Role(CTImageStorage, scu=False, scp=True), Role(FIND, scu=True, scp=False), Role(COMMIT, scu=False, scp=True),
    )  # fmt: skip
    assert found.answer.user.extended == (Extended(FIND, b"\1"),)
    assert found.extended == {FIND: b"\1"}


@pytest.mark.parametrize(("wanted", "given"), [(None, None), ((1, 1), (1, 1)), ((0, 0), (WINDOW, 1)), ((5, 9), (5, 1))])
def test_the_window(wanted: tuple[int, int] | None, given: tuple[int, int] | None) -> None:
    assert agreed(asked(operations=wanted), device(), SERVICES).answer.user.operations == given


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"protocol_version": 3}, None),
        ({"application_context": "1.2"}, (1, 1, 2)),
        ({"called": "OTHER"}, (1, 1, 7)),
        ({"calling": "OTHER"}, (1, 1, 3)),
        ({"calling": ""}, (1, 1, 3)),
        ({"calling": "A\\B"}, (1, 1, 3)),
    ],
)
def test_who_may_associate(tmp_path: Path, changes: dict[str, object], reason: tuple[int, int, int] | None) -> None:
    devices = [{"ae_title": "SCANNER", "address": "10.0.0.0/8"}]
    request = AssociateRequest(**{"called": "US", "calling": "SCANNER", "contexts": (), **changes})  # type: ignore[arg-type]
    with node(tmp_path, devices=devices) as opened:
        verdict = judged(request, "10.0.0.1", "US", opened.peers, secure=False)
    if reason is None:
        assert isinstance(verdict, Device)
        assert verdict.permissions == {"store", "commit", "worklist", "mpps"}
    else:
        assert isinstance(verdict, Rejection)
        assert (verdict.answer.result, verdict.answer.source, verdict.answer.reason) == reason


def test_without_configuration_a_loopback_peer_may_do_everything(tmp_path: Path) -> None:
    request = AssociateRequest(called="US", calling="ANY", contexts=())
    with node(tmp_path) as opened:
        verdict = judged(request, "127.0.0.1", "US", opened.peers, secure=False)
        assert isinstance(verdict, Device)
        assert verdict.permissions == EVERY_PERMISSION
        assert isinstance(judged(request, "10.0.0.1", "US", opened.peers, secure=False), Rejection)
