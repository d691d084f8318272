"""Why an HTTP request of ours got no answer, in words that are fit for whoever asked."""

import socket
import ssl

import httpx2


def why(error: httpx2.HTTPError | OSError, service: str = "such a service") -> str:
    """A request that got no answer, in a sentence; the words of a library may quote what was sent. `service` is what was looked for."""
    if words := _before_http(error):
        return words
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return "there is no answer at this address"
        case httpx2.ProxyError():
            return "the proxy does not let the request through"
        case httpx2.TimeoutException():
            return "the server did not answer in time"
        case httpx2.RemoteProtocolError() if "disconnected" in str(error):
            return f"the connection ended before the answer; is there {service} at this address?"
        case httpx2.RemoteProtocolError() if "complete message" in str(error) or "incomplete" in str(error):
            return "the answer broke off"
        case httpx2.RemoteProtocolError():
            return "what answers there is no HTTP server"
        case httpx2.NetworkError():
            return "the connection broke before the answer"
        case OSError():
            return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    return f"the request failed: {type(error).__name__}"


def _before_http(error: httpx2.HTTPError | OSError) -> str:
    """What was wrong with TLS or the name of the host; empty where neither was."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "no TLS connection: the server's certificate is not one that is trusted here"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection: what answers there speaks no TLS, or another version"
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
        cause = cause.__cause__ or cause.__context__
    return ""
