"""ITI TF-2 appendix C.2.3: one HL7 v2 message in, one acknowledgment out, after the commit of what the message says.

The same message again, from the same sender, has the same answer and is not done again. What was refused is: it changed nothing.
"""

import secrets
from datetime import UTC, datetime

from ihe import hl7v2, iti8, iti64
from ihe.hl7v2 import MessageRefused, Segment
from ihe.iti8 import Feed
from ihe.iti64 import LinkChange
from ihe.mllp import Block
from profiles import timestamps
from profiles.audit_event import FAILED, REFUSED, Agent
from server import telemetry
from server.edges.context import Node
from server.errors import Busy, ImageShareError, NotFound
from server.records import feed_messages
from server.work.patient_feed import PatientFeed


class Exchange:
    """Answers messages, for one node. Safe for threads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._feed = PatientFeed(node.settings, node.database, node.blobs, node.installation, node.trail)

    def answer(self, block: Block, sender: str, address: str) -> bytes:
        """The acknowledgment of what a block holds, from a sender that is known by this name and calls from there. Raises nothing."""
        header: Segment | None = None
        feed: Feed | LinkChange | None = None
        try:
            header = hl7v2.header_of(block.content)
            if block.is_cut:
                most = self._node.settings.max_message_bytes
                raise MessageRefused("102", f"the message is too long: at most {most} bytes are taken")
            message = hl7v2.read(block.content)
            feed = iti64.read(message) if iti64.is_one(message) else iti8.read(message)
            return self._done(header, feed, block.content, sender, address)
        except MessageRefused as refused:
            return self._refused(header, feed, refused, sender, address)
        except ImageShareError as error:
            telemetry.log().warning("message_failed", door="mllp", address=address, **telemetry.failure(error))
            return self._refused(header, feed, _as_refusal(error), sender, address)
        except Exception as error:  # noqa: BLE001 (answered, and logged)
            telemetry.log().error("message_failed", door="mllp", address=address, **telemetry.failure(error))
            return self._refused(header, feed, MessageRefused("207", "the server could not do it"), sender, address)

    def _done(self, header: Segment, feed: Feed | LinkChange, message: bytes, sender: str, address: str) -> bytes:
        known = feed_messages.digest(sender, message)
        with self._node.database.read() as connection:
            before = feed_messages.answer(connection, known)
        if before is not None:
            return before
        answered = _acknowledged(header, None)
        self._feed.take(
            feed, _agent(feed, sender, address), lambda connection: feed_messages.remember(connection, known, answered)
        )
        telemetry.log().info("message_taken", door="mllp", address=address, method=feed.event)
        return answered

    def _refused(
        self, header: Segment | None, feed: Feed | LinkChange | None, refused: MessageRefused, sender: str, address: str
    ) -> bytes:
        """The trail first; where that cannot be written the answer goes out all the same, for it tells of nobody."""
        outcome = FAILED if refused.condition == "207" else REFUSED
        try:
            self._feed.refused(feed, _agent(feed, sender, address), refused.detail, outcome)
        except Exception as error:  # noqa: BLE001 (logged)
            telemetry.log().error("trail", door="mllp", address=address, **telemetry.failure(error))
        return _acknowledged(header, refused)


def _acknowledged(header: Segment | None, refused: MessageRefused | None) -> bytes:
    now = f"{timestamps.dtm(datetime.now(UTC))}+0000"
    return hl7v2.acknowledgment(header, refused, control_id=secrets.token_hex(10), now=now, sender=("imageshare", ""))


def _agent(feed: Feed | LinkChange | None, sender: str, address: str) -> Agent:
    """ITI TF-2 section 3.8.5.1: who sent it, as the message says it, by facility and application; and as who it is known here."""
    said = "|".join(reversed(feed.source)) if feed is not None and any(feed.source) else sender
    return Agent(identifier=said, name=sender, address=address)


def _as_refusal(error: ImageShareError) -> MessageRefused:
    """What the sender can put right is AE; what this server cannot do now is AR, and comes again."""
    if isinstance(error, NotFound):
        return MessageRefused("204", error.detail)
    if isinstance(error, Busy) or error.http_status >= 500:
        return MessageRefused("207", error.detail)
    return MessageRefused("206" if error.http_status == 409 else "102", error.detail)
