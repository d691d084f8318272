"""Calling a peer of the table: an association to where it listens, with TLS if it wants that."""

import ssl
import time
from collections.abc import Sequence

from ihe.dimse import Command, CommandField
from ihe.pdu import ProposedContext, Role
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from server import association, bcp195
from server.association import Association, Ended, Limits
from server.errors import Unavailable
from server.records.peers import Peer
from server.settings import Settings

VERIFICATION = "1.2.840.10008.1.1"
SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
PATIENCE = Limits(artim=10.0, silence=30.0)
"""Seconds for a service without images: to connect and associate, and for an answer."""


class NoAnswer(Unavailable):
    """A peer that could not be called, or did not do what it was asked; the message says why, in words for the administrator."""

    summary = "the peer could not be reached, or did not answer"


def tls_context(peer: Peer, settings: Settings) -> ssl.SSLContext | None:
    """PS3.15 annex B: the TLS that a peer is called with, None for none. Our certificate is that of our own port."""
    if not peer.tls:
        return None
    return bcp195.client_context(
        settings.dicom_tls_profile, settings.dicom_tls_ca, settings.dicom_tls_certificate, settings.dicom_tls_key,
        verify_name=peer.tls == "verify", named=bcp195.Named("dicom_tls_", "dicom_tls_"),
    )  # fmt: skip


def called(
    peer: Peer, settings: Settings, abstract_syntax: str, roles: Sequence[Role] = (), limits: Limits = PATIENCE,
    besides: Sequence[ProposedContext] = (),
) -> Association:  # fmt: skip
    """PS3.8 section 7.1: an association for one SOP Class. Raises `Ended`, or `NoAnswer` where the peer does not offer it.

    `besides` are further presentation contexts, with ids from 3 on.
    """
    opened = association.connect(
        peer.host, peer.port, calling=settings.ae_title, called=peer.ae_title, roles=roles, limits=limits,
        contexts=[ProposedContext(1, abstract_syntax, SYNTAXES), *besides], tls=tls_context(peer, settings),
    )  # fmt: skip
    if opened.context(abstract_syntax) is None:
        opened.release()
        raise NoAnswer("the peer associates, but does not offer this service to us")
    return opened


def end(opened: Association) -> None:
    """Releases an association, or closes what is left of it."""
    if opened.established:
        opened.release()
    else:
        opened.abort()


def echo(peer: Peer, settings: Settings, limits: Limits = PATIENCE) -> float:
    """PS3.4 annex A: C-ECHO. Returns milliseconds from its request to its answer. Raises `NoAnswer`, which says what is wrong."""
    try:
        opened = called(peer, settings, VERIFICATION, limits=limits)
        try:
            began = time.monotonic()
            number = opened.next_message_id()
            context = opened.context(VERIFICATION)
            assert context is not None
            opened.send(context.id, Command(field=CommandField.C_ECHO_RQ, message_id=number, affected_sop_class_uid=VERIFICATION))
            answer = opened.receive().command
            taken = (time.monotonic() - began) * 1000
        finally:
            end(opened)
    except Ended as error:
        raise NoAnswer(str(error)) from None
    if answer.field != CommandField.C_ECHO_RSP or answer.status:
        raise NoAnswer(f"the peer associates, but answers C-ECHO with status {answer.status or 0:04X}H")
    return taken
