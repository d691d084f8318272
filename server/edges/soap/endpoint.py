"""One SOAP address: request in, answer or fault out. What is the same for every transaction is here, once.

The order: who asks (401, 403), what kind of message (415, 413), the envelope and the assertion in it (fault), the transaction, the trail,
the first byte.
"""

import uuid

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ihe import mtom, soap
from ihe.ebrs import RegistryError, RegistryRefusal
from ihe.soap import Envelope, SoapFault
from ihe.xua import TokenRefused
from server import telemetry
from server.access.decisions import Decision
from server.edges import context
from server.edges.soap import message
from server.edges.soap.access import admit, challenge, identified, understood
from server.edges.soap.transaction import Answer, Transaction
from server.errors import Conflict, ImageShareError, NotSupported, Refused, Unavailable


class SoapEndpoint:
    """The ASGI application of one address. Transactions are told apart by wsa:Action; the first names refusals before that."""

    def __init__(self, *transactions: Transaction) -> None:
        self._first = transactions[0]
        self._by_action = {transaction.action: transaction for transaction in transactions}

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
            message.check_media_type(request)
            body = await message.received(request, context.node(request).settings.max_message_bytes)
        except ImageShareError as error:
            return await run_in_threadpool(self._refused, request, error)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 (as below)
            return await run_in_threadpool(self._broken, request, error, None, self._first)
        return await run_in_threadpool(self._answered, request, known, body)

    def _answered(self, request: Request, known: Decision | None, body: bytes) -> Response:
        envelope, transaction = None, self._first
        try:
            envelope = message.envelope(request.headers["content-type"], body, understood(request))
            transaction = self._by_action[soap.require_action(envelope, *self._by_action)]
            decision = identified(request, known, envelope)
            return _rendered(transaction, envelope, _answer(request, decision, transaction, envelope))
        except SoapFault as fault:
            return self._fault(request, fault, fault.http_status, envelope, transaction)
        except Exception as error:  # noqa: BLE001 (whatever it was, the client gets a fault and the log its place)
            return self._broken(request, error, envelope, transaction)

    def _broken(self, request: Request, error: Exception, envelope: Envelope | None, transaction: Transaction) -> Response:
        """An error of ours: its place goes into the log, its text nowhere."""
        telemetry.log().error("soap", request_id=context.request_id(request), **telemetry.failure(error))
        fault = SoapFault("Receiver", f"an internal error, logged under request id {context.request_id(request)}")
        return self._fault(request, fault, 500, envelope, transaction)

    def _refused(self, request: Request, error: ImageShareError) -> Response:
        """`error`, found before the message was read."""
        fault = SoapFault("Sender" if error.http_status < 500 else "Receiver", error.detail)
        response = self._fault(request, fault, error.http_status, None, self._first)
        response.headers.update(challenge(error))
        if isinstance(error, _MethodNotAllowed):
            response.headers["Allow"] = "POST"
        return response

    def _fault(
        self, request: Request, fault: SoapFault, status: int, envelope: Envelope | None, transaction: Transaction
    ) -> Response:
        error = _refusal(status, fault.why if isinstance(fault, TokenRefused) else fault.reason)
        try:
            entities = transaction.asked(envelope) if envelope is not None else ()
            context.refused(request, error, transaction.kind, transaction.subtype, entities=entities, rest=False)
        except Exception as trail:  # noqa: BLE001 (nothing is disclosed, so the refusal may go out without its event)
            telemetry.log().error("trail", request_id=context.request_id(request), **telemetry.failure(trail))
        body = soap.render_fault(fault, envelope.message_id if envelope else "", _message_id())
        return Response(body, status, {"Content-Type": soap.content_type(soap.fault_action(fault))})


class _MethodNotAllowed(NotSupported):
    http_status = 405


def _refusal(status: int, detail: str) -> ImageShareError:
    error = Refused(detail) if status < 500 else Unavailable(detail)
    error.http_status = status
    return error


def _answer(request: Request, decision: Decision, transaction: Transaction, envelope: Envelope) -> Answer:
    """The transaction's answer, be it a failure; what it refuses is in the trail."""
    try:
        answer = transaction.answer(request, decision, envelope)
    except RegistryRefusal as refusal:
        answer = Answer(transaction.failed(refusal.errors), refusal.errors)
    except ImageShareError as error:
        made = transaction.error(error)
        answer = Answer(transaction.failed((made,)), (made,))
    if answer.errors:
        context.refused(
            request, Conflict(_summary(answer.errors)), transaction.kind, transaction.subtype, entities=transaction.asked(envelope), rest=False
        )  # fmt: skip
    return answer


def _summary(errors: tuple[RegistryError, ...]) -> str:
    first, *more = errors
    return f"{first.code}: {first.context}" + (f" (and {len(more)} more)" if more else "")


def _rendered(transaction: Transaction, envelope: Envelope, answer: Answer) -> Response:
    root = soap.render(transaction.response_action, envelope.message_id, answer.body, _message_id())
    if not transaction.mtom:
        return Response(root, headers={"Content-Type": soap.content_type(transaction.response_action)})
    boundary = f"imageshare-{uuid.uuid4().hex}"
    headers = {
        "Content-Type": mtom.content_type(boundary, transaction.response_action),
        "Content-Length": str(mtom.content_length(root, answer.attachments, boundary)),
    }
    return StreamingResponse(context.together(mtom.chunks(root, answer.attachments, answer.content, boundary)), headers=headers)


def _message_id() -> str:
    return uuid.uuid4().urn
