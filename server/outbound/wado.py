"""Images by URL from a partner: WADO-URI (PS3.18 section 9, IHE RAD-55) and WADO-RS (section 10.4, RAD-107), streamed."""

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx2

from ihe import multipart
from ihe.multipart import MultipartError, PartData, PartEnd, PartStart
from profiles.vocabulary import DICOM
from server.errors import Unavailable
from server.outbound import unreached
from server.outbound.partners import tls_context
from server.settings import Community, Settings

_CONNECT_SECONDS: Final = 10.0
_ACCEPT: Final = {
    True: DICOM,
    False: f'multipart/related; type="{DICOM}"; transfer-syntax=*, {DICOM}; transfer-syntax=*',
}
"""By whether it is asked by query parameters."""
_SERVICE: Final = "a service for images"
_REASONS: Final = {
    401: "an access token is wanted (communities: token)",
    403: "it is not allowed",
    404: "the source does not have it",
    406: "the source cannot give it as DICOM",
    410: "the source has it no more",
}


class WadoClient:
    """One imaging source of a community by its base URL. Its connections are kept until `close`. Safe for threads."""

    def __init__(
        self, settings: Settings, url: str, *, seconds: float, token: str = "", community: Community | None = None
    ) -> None:
        """`seconds` is for each step of an exchange. Raises `SettingsError` for certificates that cannot be used."""
        verify = tls_context(settings, url, community) if urlsplit(url).scheme == "https" else True
        timeout = httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        self._url = url.rstrip("/")
        self._headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._web = httpx2.Client(verify=verify, timeout=timeout, follow_redirects=False, trust_env=False)

    def close(self) -> None:
        """Ends the connections."""
        self._web.close()

    def get(self, path: str, take: Callable[[Iterator[bytes]], None]) -> str:
        """PS3.18 sections 9.4 and 10.4: one instance, `path` below the base URL, its bytes to `take`. Why it is refused, else empty.

        Raises `Unavailable` where no answer comes, or it breaks off.
        """
        headers = {**self._headers, "Accept": _ACCEPT[path.startswith("?")]}
        try:
            with self._web.stream("GET", self._url + path, headers=headers) as answer:
                return _taken(answer, take)
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(unreached.why(error, _SERVICE)) from None
        except MultipartError as error:
            raise Unavailable(f"the partner's answer cannot be read: {error}") from None
        finally:
            self._web.cookies.clear()


def _taken(answer: httpx2.Response, take: Callable[[Iterator[bytes]], None]) -> str:
    status = answer.status_code
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"the partner's server answered with HTTP {status}")
    if status != httpx2.codes.OK:
        return f"HTTP {status}: {_REASONS.get(status, 'the source refuses it')}"
    content_type = answer.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() == DICOM:
        take(answer.iter_bytes())
        return ""
    if content_type.lower().startswith("multipart/"):
        take(_first(answer, content_type))
        return ""
    return "what the source sends is no DICOM"


def _first(answer: httpx2.Response, content_type: str) -> Iterator[bytes]:
    """PS3.18 section 8.6.1: the one part that an instance is. Its end has to come."""
    splitter = multipart.Splitter(multipart.boundary_of(content_type))
    begun = ended = False
    for data in answer.iter_bytes():
        for event in splitter.feed(data):
            if isinstance(event, PartStart) and begun:
                raise MultipartError("it has more parts than were asked for")
            begun = begun or isinstance(event, PartStart)
            ended = ended or isinstance(event, PartEnd)
            if isinstance(event, PartData):
                yield bytes(event.data)
    splitter.close()
    if not ended:
        raise MultipartError("it has no part")
