"""One SOAP address: request in, answer or fault out. What is the same for every transaction is here, once.

The order: who asks (401, 403), what kind of message (415, 413), the envelope and the assertion in it (fault), what is attached, the
transaction, the trail, the first byte.
"""

import uuid
from collections.abc import Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ihe import mtom, soap
from ihe.ebrs import ERROR, RegistryError, RegistryRefusal
from ihe.soap import Envelope, SoapFault
from ihe.xua import TokenRefused
from profiles.audit_event import AuditedEntity
from server import telemetry
from server.access.decisions import Decision
from server.edges import context
from server.edges.bodies import PiecesResponse
from server.edges.soap import message, schemas
from server.edges.soap.access import admit, challenge, identified, understood
from server.edges.soap.transaction import Answer, Attachments, Transaction
from server.errors import Conflict, ImageShareError, MalformedBody, NotSupported, Refused, Unavailable


class SoapEndpoint:
    """The ASGI application of one address. Transactions are told apart by wsa:Action; the first names refusals before that."""

    def __init__(self, *transactions: Transaction) -> None:
        self._first = transactions[0]
        self._by_action = {transaction.action: transaction for transaction in transactions}
        self._takes_attachments = any(transaction.receive is not None for transaction in transactions)

    @property
    def transactions(self) -> list[str]:
        """Their numbers, such as ITI-18."""
        return [transaction.subtype.code for transaction in self._by_action.values()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return  # nobody is there to be answered, and nothing was done
        response.headers["X-Request-Id"] = context.request_id(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            if request.method != "POST":
                raise _MethodNotAllowed("a SOAP message must be sent by POST")
            known = await run_in_threadpool(admit, request)
            limit = self._limit(request, known)
            message.check(request, limit, attachments=self._takes_attachments)
        except ImageShareError as error:
            return await run_in_threadpool(self._refused, request, error)
        except Exception as error:  # noqa: BLE001 (as below)
            return await run_in_threadpool(self._broken, request, error, None)
        exchange = _Exchange(request, known, limit, self._by_action, self._first)
        try:
            return await context.fed(request, exchange.feed, exchange.finish)
        except ClientDisconnect:
            if exchange.attachments is not None:
                await run_in_threadpool(exchange.cut_off)
            raise
        except Exception as error:  # noqa: BLE001 (whatever it was, the client gets a fault and the log its place)
            return await run_in_threadpool(self._failed, request, error, exchange)
        finally:
            if exchange.attachments is not None:
                await run_in_threadpool(exchange.attachments.abort)

    def _limit(self, request: Request, known: Decision | None) -> int:
        """Bytes that an envelope may have before it is known which transaction's it is: fewer where only an assertion in it can say who sends it."""
        largest = max(each.limit(context.node(request).settings) for each in self._by_action.values())
        return largest if known is not None else min(largest, _OF_STRANGERS)

    def _failed(self, request: Request, error: Exception, exchange: "_Exchange") -> Response:
        match error:
            case SoapFault():
                return self._fault(request, error, error.http_status, exchange)
            case ImageShareError():
                return self._refused(request, error)
        return self._broken(request, error, exchange)

    def _broken(self, request: Request, error: Exception, exchange: "_Exchange | None") -> Response:
        """An error of ours: its place goes into the log, its text nowhere."""
        telemetry.log().error("soap", request_id=context.request_id(request), **telemetry.failure(error))
        fault = SoapFault("Receiver", f"an internal error, logged under request id {context.request_id(request)}")
        return self._fault(request, fault, 500, exchange)

    def _refused(self, request: Request, error: ImageShareError) -> Response:
        """`error`, found before the message was read."""
        fault = SoapFault("Sender" if error.http_status < 500 else "Receiver", error.detail)
        response = self._fault(request, fault, error.http_status, None)
        response.headers.update(challenge(error))
        if isinstance(error, _MethodNotAllowed):
            response.headers["Allow"] = "POST"
        return response

    def _fault(self, request: Request, fault: SoapFault, status: int, exchange: "_Exchange | None") -> Response:
        error = _refusal(status, fault.why if isinstance(fault, TokenRefused) else fault.reason)
        transaction = exchange.transaction if exchange is not None else self._first
        envelope = exchange.envelope if exchange is not None else None
        try:
            entities = exchange.asked if exchange is not None else ()
            context.refused(request, error, transaction.kind, transaction.subtype, entities=entities, rest=False)
        except Exception as trail:  # noqa: BLE001 (nothing is disclosed, so the refusal may go out without its event)
            telemetry.log().error("trail", request_id=context.request_id(request), **telemetry.failure(trail))
        body = soap.render_fault(fault, envelope.message_id if envelope else "", _message_id())
        return Response(body, status, {"Content-Type": soap.content_type(soap.fault_action(fault))})


_OF_STRANGERS: Final = 4 << 20
"""It is in memory until it is whole, and whoever can open a connection may send one."""


class _MethodNotAllowed(NotSupported):
    http_status = 405


def _refusal(status: int, detail: str) -> ImageShareError:
    error = Refused(detail) if status < 500 else Unavailable(detail)
    error.http_status = status
    return error


class _Exchange:
    """One request on its way through an endpoint: its message as it arrives, and then its answer. The methods block.

    `attachments` has to be told when all is over. Raises `SoapFault`, and `ImageShareError` for what is found before the envelope.
    """

    def __init__(
        self, request: Request, known: Decision | None, limit: int, by_action: Mapping[str, Transaction], first: Transaction
    ) -> None:
        self._request, self._known, self._limit, self._by_action = request, known, limit, by_action
        self._incoming: message.Incoming | None = None
        self._decision = known
        self.transaction = first
        self.envelope: Envelope | None = None
        self._asked: tuple[AuditedEntity, ...] | None = None
        self.attachments: Attachments | None = None

    @property
    def asked(self) -> tuple[AuditedEntity, ...]:
        """What the trail keeps of the message, of which it may be nothing yet."""
        if self._asked is None:
            return self.transaction.asked(self.envelope) if self.envelope is not None else ()
        return self._asked

    def feed(self, data: bytes) -> None:
        """A piece of the message."""
        self._begun().feed(data)

    def finish(self, data: bytes) -> Response:
        """The last piece, and the answer."""
        incoming = self._begun()
        with message.in_turn(incoming.size):
            incoming.finish(data)
            assert self.envelope is not None
            assert self._decision is not None
            answer = self._answer(self._decision, self.envelope)
            try:
                schemas.check_answer(context.node(self._request).settings, answer.body)
            except SoapFault:
                answer.close()
                raise
            return _rendered(self.transaction, self.envelope, answer)

    def cut_off(self) -> None:
        """The client is gone in the middle of its attachments: the trail has what was begun."""
        self._refused(MalformedBody("the connection was closed before the end of the message"))

    def _begun(self) -> message.Incoming:
        if self._incoming is None:
            content_type = self._request.headers["content-type"]
            self._incoming = message.Incoming(content_type, self._limit, understood(self._request), self._opened)
        return self._incoming

    def _opened(self, envelope: Envelope, size: int, in_mtom: bool) -> Attachments | None:
        self.envelope = envelope
        self.transaction = self._by_action[soap.require_action(envelope, *self._by_action)]
        self._begun().hold_to(self.transaction.limit(context.node(self._request).settings), size)
        self._decision = identified(self._request, self._known, envelope)
        schemas.check_request(context.node(self._request).settings, envelope.body)
        if in_mtom and self.transaction.receive is not None:
            self._asked = self.transaction.asked(envelope)
            self.attachments = self.transaction.receive(self._request, self._decision, envelope)
            envelope.body.clear()  # it has been read; its attachments may take hours
        return self.attachments

    def _answer(self, decision: Decision, envelope: Envelope) -> Answer:
        """The transaction's answer, be it a failure; what it refuses is in the trail."""
        transaction, whose = self.transaction, frozenset[str]()
        try:
            answer = self.attachments.answer() if self.attachments else transaction.answer(self._request, decision, envelope)
        except RegistryRefusal as refusal:
            answer = Answer(transaction.failed(refusal.errors), refusal.errors)
        except ImageShareError as error:
            made, whose = transaction.error(error), getattr(error, "patients", whose)
            answer = Answer(transaction.failed((made,)), (made,))
        if wrong := tuple(error for error in answer.errors if error.severity == ERROR):
            self._refused(_Failed(_summary(wrong), whose | answer.withheld))
        return answer

    def _refused(self, error: ImageShareError) -> None:
        context.refused(self._request, error, self.transaction.kind, self.transaction.subtype, entities=self.asked, rest=False)


class _Failed(Conflict):
    """`patients` are those whose data were refused: their trails have it too."""

    def __init__(self, detail: str, patients: frozenset[str]) -> None:
        super().__init__(detail)
        self.patients = patients


def _summary(errors: tuple[RegistryError, ...]) -> str:
    first, *more = errors
    return f"{first.code}: {first.context}" + (f" (and {len(more)} more)" if more else "")


class _InMtom(PiecesResponse):
    """An answer with attachments, which is closed when it was sent, or could not be."""

    def __init__(self, root: bytes, answer: Answer, action: str) -> None:
        boundary = f"imageshare-{uuid.uuid4().hex}"
        self._close = answer.close
        super().__init__(
            mtom.chunks(root, answer.attachments, answer.content, boundary),
            {
                "Content-Type": mtom.content_type(boundary, action),
                "Content-Length": str(mtom.content_length(root, answer.attachments, boundary)),
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await run_in_threadpool(self._close)


def _rendered(transaction: Transaction, envelope: Envelope, answer: Answer) -> Response:
    root = soap.render(transaction.response_action, envelope.message_id, answer.body, _message_id())
    if transaction.mtom:
        return _InMtom(root, answer, transaction.response_action)
    return Response(root, headers={"Content-Type": soap.content_type(transaction.response_action)})


def _message_id() -> str:
    return uuid.uuid4().urn
