"""UPS-RS: the worklist service (PS3.18 section 11), transaction by transaction."""

import functools

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from profiles.audit_event import REST_CREATE, REST_READ, REST_SEARCH, REST_UPDATE, dicom_objects
from profiles.dicom_json import Attributes
from profiles.identifiers import InvalidIdentifier, ae_title, lenient_uid
from profiles.model_item import same, text
from profiles.workitem import MODIFIED, SOP_CLASS, SOP_INSTANCE, STATE, TRANSACTION
from server.access.decisions import Interaction
from server.edges import context
from server.edges.dicomweb import datasets, targets, workitem_query
from server.edges.dicomweb.answers import AsyncHandler, answering, answering_async, problem
from server.edges.dicomweb.dataset_body import data_set
from server.errors import MalformedQuery, Refused, WorkitemConflict, WrongAttributes
from server.work.reconcile import Actor
from server.work.workitems import TASK, Worklist

_FILLED_IN = {SOP_CLASS, SOP_INSTANCE, STATE, MODIFIED}
_STATES = {"CANCELLED": "CANCELED"}  # as section 11.7.1.4 spells it


def worklist(request: Request) -> Worklist:
    """The node's worklist."""
    node = context.node(request)
    return Worklist(node.settings, node.database, node.installation, node.trail)


def actor(request: Request) -> Actor:
    """Who asks, for the trail."""
    decision = context.decision(request)
    return Actor(context.client(request), request_id=context.request_id(request), token_id=decision.token_id)


def target(request: Request) -> str:
    """The UID of the path. Raises `MalformedQuery`."""
    found = targets.uid(request, "workitem")
    assert found is not None
    return found


def warn(request: Request, response: Response, text: str) -> Response:
    """PS3.18 section 11: `text` in a Warning header."""
    response.headers.append("Warning", f'299 {targets.base(request)} "{text}"')
    return response


def _explained(handler: AsyncHandler) -> AsyncHandler:
    """A refusal for the state of a workitem says so in a Warning header too."""

    @functools.wraps(handler)
    async def explained(request: Request) -> Response:
        try:
            return await handler(request)
        except WorkitemConflict as error:
            return warn(request, problem(request, error.http_status, error.detail, error.number), error.warning)

    return explained


async def _said(request: Request, interaction: Interaction, *, optional: bool = False) -> Attributes:
    """The data set of the body, which is read for nobody who may not do this at all. Raises `Forbidden`, and as `data_set`."""
    context.decision(request).require(TASK, interaction)
    return await data_set(request, optional=optional)


@answering_async("create", REST_CREATE)
async def create(request: Request) -> Response:
    """PS3.18 section 11.4: Create Workitem."""
    uid = _named_uid(request, "workitem")
    item = await _said(request, Interaction.CREATE)
    return await run_in_threadpool(_create, request, uid, item)


def _create(request: Request, uid: str | None, item: Attributes) -> Response:
    if uid is None and SOP_INSTANCE in item:
        _uid(text(item, SOP_INSTANCE))
    made = worklist(request).create(context.decision(request), actor(request), uid, item)
    location = f"{targets.base(request)}/workitems/{made.uid}"
    response = Response(status_code=201, headers={"Location": location, "Content-Location": location})
    if any(not same(value, item.get(tag)) for tag, value in made.item.items() if tag not in _FILLED_IN):
        warn(request, response, "The Workitem was created with modifications.")
    return response


@answering("read", REST_READ)
def retrieve(request: Request) -> Response:
    """PS3.18 section 11.5: Retrieve Workitem."""
    form = datasets.form(request)
    with context.reading(request) as connection:
        found = worklist(request).read(connection, context.decision(request), target(request))
    context.told(request, "read", REST_READ, patients=[found.patient], entities=dicom_objects(instance=found.uid))
    return datasets.answer(form, [orjson.dumps(found.item)], {"Vary": datasets.VARY})


@answering_async("update", REST_UPDATE)
@_explained
async def update(request: Request) -> Response:
    """PS3.18 section 11.6: Update Workitem."""
    lock = _named_uid(request, "transaction-uid")
    changes = await _said(request, Interaction.UPDATE)
    work = worklist(request)
    await run_in_threadpool(work.change, context.decision(request), actor(request), target(request), changes, lock)
    return Response(status_code=200)


@answering_async("update", REST_UPDATE)
@_explained
async def change_state(request: Request) -> Response:
    """PS3.18 section 11.7: Change Workitem State."""
    asked = await _said(request, Interaction.UPDATE)
    state, lock = text(asked, STATE), text(asked, TRANSACTION)
    if not state:
        raise WrongAttributes("Procedure Step State (0074,1000) is missing (PS3.18 section 11.7.1.4)", tags=(int(STATE, 16),))
    warning = await run_in_threadpool(
        worklist(request).change_state,
        context.decision(request),
        actor(request),
        target(request),
        _STATES.get(state, state),
        _uid(lock) if lock else "",
    )
    response = Response(status_code=200)
    return warn(request, response, warning) if warning else response


@answering_async("update", REST_UPDATE)
@_explained
async def request_cancellation(request: Request) -> Response:
    """PS3.18 section 11.8: Request Cancellation."""
    reasons = await _said(request, Interaction.UPDATE, optional=True)
    decision = context.decision(request)
    requester = request.query_params.get("requester", "") or _as_ae_title(decision.subject)
    warning = await run_in_threadpool(
        worklist(request).request_cancel, decision, actor(request), target(request), reasons, subscriber(requester)
    )
    response = Response(status_code=202)
    return warn(request, response, warning) if warning else response


@answering("query", REST_SEARCH)
def search(request: Request) -> Response:
    """PS3.18 section 11.9: Search."""
    decision = context.decision(request)
    try:
        form = datasets.form(request)
        asked = workitem_query.asked(request.query_params.multi_items())
    except Refused:
        decision.require(TASK, Interaction.SEARCH)  # who may not search at all is told so first
        raise
    with context.reading(request) as connection:
        rows = worklist(request).search(connection, decision, asked.keys, limit=asked.limit + 1, offset=asked.offset)
    found = rows[: asked.limit]
    entities = targets.asked(request, "query")
    context.told(request, "query", REST_SEARCH, patients={one.patient for one in found}, entities=entities)
    headers = {"Vary": datasets.VARY}
    results = [orjson.dumps(asked.result(one.item)) for one in found]
    response = datasets.answer(form, results, headers) if results else Response(status_code=204, headers=headers)
    if asked.fuzzy:
        warn(request, response, "The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    if len(rows) > asked.limit:
        warn(request, response, "There are additional results that can be requested")
    return response


def subscriber(title: str) -> str:
    """An AE title. Raises `MalformedQuery`."""
    try:
        return ae_title(title)
    except InvalidIdentifier as error:
        raise MalformedQuery(str(error)) from None


def _as_ae_title(subject: str) -> str:
    """The client's name as far as an AE title can say it: who asks by HTTP has none of its own."""
    plain = "".join(letter for letter in subject if letter.isascii() and letter.isprintable() and letter != "\\")
    return plain.strip()[:16].strip() or "UNKNOWN"


def _named_uid(request: Request, name: str) -> str | None:
    """A UID that is the query itself (`?1.2.3`, as sections 11.4.1 and 11.6.1 have it) or named (`?name=1.2.3`)."""
    found = [value or key for key, value in request.query_params.multi_items() if key == name or not value]
    if len(found) > 1:
        raise MalformedQuery(f"the query has one UID: ?1.2.3, or ?{name}=1.2.3")
    return _uid(found[0]) if found else None


def _uid(value: str) -> str:
    try:
        return lenient_uid(value)
    except InvalidIdentifier as error:
        raise MalformedQuery(str(error)) from None
