"""What the statement tells of the DICOM web services."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from fastapi import FastAPI
from starlette.routing import Route

from profiles.frames import media_type
from profiles.transfer_syntaxes import DECODED, ENCODED
from profiles.workitem import CANCEL_REQUESTED, TRANSITIONS
from profiles.workitem import rules as workitem_rules
from server import errors
from server.edges.dicomweb import capabilities, routes
from server.edges.dicomweb.capabilities import Offer
from server.edges.dicomweb.search import MOST_INSTANCES, MOST_RESULTS
from server.edges.dicomweb.subscriptions import CHANNEL
from server.errors import ImageShareError, UnsupportedMediaType
from server.statement.markdown import attribute, code, listed, status, table, tagged
from server.statement.network import STORE_ERRORS

# A service, its paragraph of PS3.18 (none for what is not in it), and its transactions as method and path below the base
_GROUPS: Final = (
    ("Store (STOW-RS)", "10.5", r"POST /studies(/\{\w+\})?"),
    ("Search (QIDO-RS)", "10.6", r"GET (/studies/\{\w+\}|/series/\{\w+\})*/(studies|series|instances)"),
    ("Retrieve instances, frames (WADO-RS)", "10.4", r"GET .*/(studies|series|instances|frames)/\{\w+\}"),
    ("Retrieve metadata, bulk data (WADO-RS)", "10.4", r"GET .*/(metadata|bulkdata/.*)"),
    ("Retrieve rendered, thumbnails (WADO-RS)", "10.4", r"GET .*/(rendered|thumbnail)"),
    ("Worklist (UPS-RS)", "11", r"\w+ /workitems.*"),
    ("Delete, reject, correct", "", r"DELETE .*|PATCH .*|POST .*/(reject|restore).*"),
    ("Fetch from another community", "", r"\w+ /fetches.*"),
    ("Change feed", "", r"GET /changefeed.*"),
)
_WITHOUT_GROUP: Final = "Other"
_NOT_STORED: Final[tuple[type[ImageShareError], ...]] = (*STORE_ERRORS, UnsupportedMediaType)


@cache
def _offers() -> tuple[Offer, ...]:
    """Everything below the base URL, as Retrieve Capabilities tells it."""
    app = FastAPI()
    routes.add_routes(app)
    return tuple(capabilities.offered(route for route in app.router.routes if isinstance(route, Route)))


def _group(offer: Offer) -> str:
    named = f"{offer.method} {offer.path}"
    return next((name for name, _, pattern in _GROUPS if re.fullmatch(pattern, named)), _WITHOUT_GROUP)


def web_overview() -> str:
    """PS3.2 annex N, overview of the web services: what is offered as origin server, and what is used as user agent."""
    there = {_group(offer) for offer in _offers()}
    return table(
        ("Service", "PS3.18", "User agent", "Origin server"),
        (
            *((name, section and f"section {section}", "`imageshare send`" if section == "10.5" else "", "yes") for name, section, _ in _GROUPS if name in there),
            *([(_WITHOUT_GROUP, "", "", "yes")] if _WITHOUT_GROUP in there else []),
            ("Retrieve by parameters (WADO-URI)", "section 9", "", "yes"),
            ("Retrieve Capabilities", "section 8.9", "", "yes"),
        ),
    )  # fmt: skip


def resources() -> str:
    """PS3.18 tables of resources: a table for each service."""
    pieces = []
    for name in (*(name for name, _, _ in _GROUPS), _WITHOUT_GROUP):
        found = [offer for offer in _offers() if _group(offer) == name]
        if found:
            pieces += [f"**{name}**", table(("Method", "Resource", "Takes", "Answers"), map(_row, found))]
            if parameters := dict.fromkeys(each for offer in found for each in offer.service.parameters):
                pieces.append(f"Query parameters besides attributes and `accept`: {listed(parameters)}.")
    return "\n\n".join(pieces)


def _row(offer: Offer) -> Sequence[object]:
    return offer.method, code(offer.path), listed(offer.service.bodies), listed(offer.service.answers)


def statuses() -> str:
    """PS3.18 section 8.5: HTTP status codes of errors."""
    classes = list(_classes(ImageShareError))
    return table(
        ("Status", "When"),
        (
            (number, "; ".join(dict.fromkeys(each.summary for each in classes if each.http_status == number)))
            for number in sorted({each.http_status for each in classes})
        ),
    )  # fmt: skip


def _classes(root: type[ImageShareError]) -> Iterator[type[ImageShareError]]:
    """The tree of `server.errors`, for whoever uses HTTP; what other modules add to it says nothing new."""
    if root.__module__ == errors.__name__ and root is not errors.SettingsError:
        yield root
        for below in root.__subclasses__():
            yield from _classes(below)


def failure_reasons() -> str:
    """PS3.18 section 10.5.3: Failure Reason of instances that were not stored."""
    return table(
        ("Failure Reason", "When"),
        (
            (f"{status(number)} ({number})", "; ".join(dict.fromkeys(each.summary for each in _NOT_STORED if each.stow_reason == number)))
            for number in dict.fromkeys(each.stow_reason for each in _NOT_STORED)
        ),
    )  # fmt: skip


def media_types() -> str:
    """PS3.18 tables 8.7.3-4 and 8.7.3-5: the media types of frames, and the transfer syntaxes that they stand for."""
    found: dict[str, list[str]] = {}
    for uid in (*ENCODED, *sorted(DECODED - set(ENCODED))):
        found.setdefault(media_type(uid), []).append(uid)
    return table(
        ("Media type", "Transfer syntaxes that are decoded", "and made"),
        ((code(type_), listed(sorted(uids)), listed(uid for uid in uids if uid in ENCODED)) for type_, uids in found.items()),
    )


def workitem_states() -> str:
    """PS3.4 table CC.1.1-2: what a change of state, or a request to cancel, does in each state."""
    states = tuple(dict.fromkeys(state for _, state in TRANSITIONS))
    return table(
        ("Request", *(f"in {state}" for state in states)),
        (
            *((f"change to {asked}", *(_done(TRANSITIONS[asked, state]) for state in states)) for asked in states),
            ("cancellation", *(_done(CANCEL_REQUESTED[state]) for state in states)),
        ),
    )


def _done(what: str | int) -> str:
    """The state after, or a status, of which those in B000H leave everything as it is and are no failure."""
    return what if isinstance(what, str) else status(what)


def workitem_attributes() -> str:
    """PS3.4 table CC.2.5-3: attributes of a workitem that are checked."""
    return table(
        ("Attribute", "Tag", "Create", "Update", "Final state"),
        (
            ("> " * (len(path) - 1) + attribute(path[-1]), tagged(path[-1]), rule.create, rule.change, rule.final)
            for path, rule in workitem_rules().items()
        ),
    )


def event_channel() -> str:
    """PS3.18 section 8.10.4: where events are told."""
    return CHANNEL


def search_limits() -> str:
    """How many results one answer has at most."""
    return f"{MOST_RESULTS:,} results, or {MOST_INSTANCES:,} below one study"
