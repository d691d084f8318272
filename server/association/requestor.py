"""PS3.8 section 7.1: associations that we request."""

import socket
import ssl
from collections.abc import Sequence

from ihe import pdu
from ihe.pdu import AssociateRequest, ProposedContext
from profiles.vocabulary import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from server.association.channel import Limits
from server.association.ended import Ended, Unreachable
from server.association.messages import Association
from server.association.sending import MAX_LENGTH


def connect(
    host: str,
    port: int,
    *,
    calling: str,
    called: str,
    contexts: Sequence[ProposedContext],
    roles: Sequence[pdu.Role] = (),
    extended: Sequence[pdu.Extended] = (),
    operations: tuple[int, int] | None = None,
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
) -> Association:
    """PS3.8 section 7.1: an established association that we requested. Raises `Unreachable`, `Rejected` or another kind of `Ended`.

    `contexts` of the result may be empty: a peer may accept the association and none of what was proposed.
    """
    limits = limits or Limits()
    try:
        connection = socket.create_connection((host, port), limits.artim)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower() if not isinstance(error, TimeoutError) else "no answer"
        raise Unreachable(f"no connection to {host} port {port}: {reason}") from None
    try:
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname=host)
    except OSError as error:
        connection.close()
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else getattr(error, "reason", None)
        raise Unreachable(f"no TLS with {host} port {port}: {why or type(error).__name__}") from None
    user = pdu.UserInformation(
        max_length=MAX_LENGTH, implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME, roles=tuple(roles), extended=tuple(extended),
        operations=operations,
    )  # fmt: skip
    made = Association(connection, requestor=True, limits=limits)
    try:
        made.request(AssociateRequest(called=called, calling=calling, contexts=tuple(contexts), user=user))
    except Ended:
        made.linger(1.0)
        raise
    return made
