"""Why an HTTP request of ours got no answer, in words that are fit for whoever asked."""

import socket
import ssl
from typing import Final

import httpx2

# What OpenSSL's X509_verify_cert says (its x509_vfy.h), by its numbers
_DISTRUSTED: Final = {
    **dict.fromkeys((7, 18, 19, 20, 21), "it is signed by nobody whom this server trusts"),
    **dict.fromkeys((9, 10), "its time has not come, or is over"),
    **dict.fromkeys((62, 64), "it is for another host"),
}


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
            reason = _DISTRUSTED.get(cause.verify_code, f"X.509 verification says {cause.verify_code}")
            return f"no TLS connection: the server's certificate is not one that is trusted here: {reason}"
        if isinstance(cause, ssl.SSLError) and _is_about_ours(cause.reason or ""):
            return "no TLS connection: the server does not take the certificate that it is shown, or wants one"
        if isinstance(cause, ssl.SSLError) and "ALERT_HANDSHAKE_FAILURE" in (cause.reason or ""):
            return "no TLS connection: the server refuses it; it may want a certificate, or other cipher suites"
        if isinstance(cause, ssl.SSLError) and isinstance(error, httpx2.ConnectError):
            return "no TLS connection: what answers there speaks no TLS, or another version"
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
        cause = cause.__cause__ or cause.__context__
    return ""


def _is_about_ours(reason: str) -> bool:
    """RFC 8446 section 6.2: whether an alert is about the client's certificate, by OpenSSL's name of it."""
    return "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED"))
