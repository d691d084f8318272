"""A foreign XDS-I.b community as its Document Consumer and Imaging Document Consumer call it: ITI-18, ITI-43, RAD-69, RAD-55 and RAD-107.

Documents and images are handed on while they arrive, none is held. Only the addresses of the settings are called, never one that a document names.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urlencode

from lxml.etree import _Element

from ihe import ebrs, iti18, iti43, rad69
from ihe.ebrs import RegistryError
from ihe.iti18 import QueryResponse
from ihe.iti43 import DocumentRequest, RetrieveResponse
from ihe.rad69 import SeriesRequest, StudyRequest
from ihe.soap import SoapFault
from profiles.transfer_syntaxes import DECODED
from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN
from server.errors import NotFound, Unavailable
from server.outbound.soap import SoapClient
from server.outbound.wado import WadoClient
from server.settings import Community, Settings, Way

Take = Callable[[str, Iterator[bytes]], None]
"""Takes a document's or image's uniqueId and its bytes, which are there once and in order. Images by URL come from several threads at once."""
Failures = dict[str, str]
"""Why documents or images did not come, by their uniqueIds: a partner's codes and our words, no value that it sent."""

TRANSFER_SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, *sorted(DECODED - {EXPLICIT_VR_LITTLE_ENDIAN}))
"""What is taken (RAD TF-2 section 4.69.4.1.2): as it is stored there, where that is one of these."""
NOT_SENT: Final = "it is not in the answer, which gives no reason"


class Image(NamedTuple):
    """An instance that is wanted, by its UIDs."""

    study: str
    series: str
    instance: str


class CommunityClient:
    """Calls one community. Its connections are kept until `close`; for one thread at a time."""

    def __init__(self, settings: Settings, community: Community) -> None:
        """Raises `SettingsError` for certificates that cannot be used."""
        self._settings = settings
        self._community = community
        self._soap: dict[str, SoapClient] = {}
        self._web: dict[str, WadoClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        for client in self._soap.values():
            client.close()
        for web in self._web.values():
            web.close()

    def query(self, request: _Element) -> QueryResponse:
        """ITI TF-2 section 3.18.4.1.2: what the registry has. Raises `Unavailable`: also for a Failure, with its codes."""
        client = self._called(self._community.registry)
        try:
            answer = iti18.parse_response(client.call(iti18.REQUEST_ACTION, request, expect=iti18.RESPONSE_ACTION))
        except SoapFault as fault:
            raise Unavailable(_fault("registry", fault)) from None
        except RegistryError:
            raise Unavailable("the registry's answer is none to a stored query") from None
        if answer.status not in (ebrs.SUCCESS, ebrs.PARTIAL_SUCCESS):
            raise Unavailable(f"the registry refuses the query: {codes(answer.errors)}")
        return answer

    def documents(self, repository: str, wanted: Sequence[str], take: Take, *, home: str = "") -> Failures:
        """ITI TF-2 section 3.43.4.1.2: documents of one repository, by their uniqueIds.

        Raises `NotFound` where the settings do not know the repository, `Unavailable`; what was taken before stays.
        """
        address = self._community.repositories.get(repository)
        if address is None:
            raise NotFound(f"the settings of {self._community.name} name no repository {repository}")
        request = iti43.request([DocumentRequest(repository, each, home or self._community.home_community_id) for each in wanted])
        return self._retrieved(address, iti43.REQUEST_ACTION, request, wanted, take)

    def images(self, source: str, wanted: Sequence[Image], take: Take, *, by: Way, home: str = "") -> Failures:
        """RAD TF-2 sections 4.69, 4.55 and 4.107: images of one source, which is its Retrieve Location UID or empty. Raises as `documents` does."""
        addresses = {
            "rad69": self._community.imaging_sources, "wado-uri": self._community.wado_uri, "wado-rs": self._community.wado_rs
        }[by]  # fmt: skip
        named, address = _of(source, addresses)
        if not address:
            raise NotFound(
                f"the settings of {self._community.name} name no address for {by} of the imaging source {source}".rstrip()
            )
        if by != "rad69":
            return self._by_url(address, wanted, take, by)
        home = home or self._community.home_community_id
        request = rad69.request(_grouped(wanted, named, home), TRANSFER_SYNTAXES)
        return self._retrieved(address, rad69.REQUEST_ACTION, request, [each.instance for each in wanted], take)

    def _retrieved(self, address: str, action: str, request: _Element, wanted: Sequence[str], take: Take) -> Failures:
        """ITI TF-2 section 3.43.4.2.2: the answer's documents, each to its place, and why others did not come."""
        left = dict.fromkeys(wanted)
        try:
            with self._called(address).retrieve(action, request, expect=iti43.RESPONSE_ACTION) as reply:
                answer = iti43.parse_response(reply.body)
                parts: dict[str, str] = {}
                for each in answer.documents:
                    uid = each.request.document_unique_id
                    if uid in left and not each.content_id:
                        del left[uid]
                        take(uid, iter((each.content,)))
                    elif uid in left:
                        parts[each.content_id] = uid
                for part in reply.parts:
                    if (found := parts.pop(part.content_id, "")) in left:
                        del left[found]
                        take(found, part.chunks)
        except SoapFault as fault:
            raise Unavailable(_fault("server", fault)) from None
        except RegistryError:
            raise Unavailable("the partner's answer is none to a retrieve request") from None
        return _missing(left, answer)

    def _by_url(self, address: str, wanted: Sequence[Image], take: Take, by: Way) -> Failures:
        """A request each, a few at a time. Where one gets no answer, no more are begun."""
        web, path = self._source(address), _wado_rs if by == "wado-rs" else _wado_uri
        failed: Failures = {}
        waiting = deque(wanted)

        def some() -> None:
            while waiting:
                try:
                    each = waiting.popleft()
                except IndexError:  # another thread has taken the last one
                    return
                if why := web.get(path(each), partial(take, each.instance)):
                    failed[each.instance] = why

        at_once = min(self._community.at_once, len(wanted))
        with ThreadPoolExecutor(at_once, thread_name_prefix="wado") as pool:
            try:
                for done in as_completed([pool.submit(some) for _ in range(at_once)]):
                    done.result()
            finally:
                waiting.clear()
        return failed

    def _source(self, address: str) -> WadoClient:
        community = self._community
        token = community.token.get_secret_value() if community.token else ""
        if address not in self._web:
            self._web[address] = WadoClient(self._settings, address, seconds=community.seconds, token=token, community=community)
        return self._web[address]

    def _called(self, address: str) -> SoapClient:
        if address not in self._soap:
            self._soap[address] = SoapClient(self._settings, address, seconds=self._community.seconds, community=self._community)
        return self._soap[address]


def codes(errors: Iterable[RegistryError]) -> str:
    """A partner's errors by their codes alone: what else it says may name a patient."""
    return ", ".join(sorted({each.code for each in errors if each.severity != ebrs.WARNING})) or "it gives no reason"


def _fault(who: str, fault: SoapFault) -> str:
    return f"the partner's {who} answers with a SOAP fault ({fault.subcode or fault.code})"


def _of(source: str, addresses: Mapping[str, str]) -> tuple[str, str]:
    """The source and its address. A manifest that names none means the only one that there is."""
    if not source and len(addresses) == 1:
        (found,) = addresses.items()
        return found
    return source, addresses.get(source, "")


def _grouped(wanted: Sequence[Image], source: str, home: str) -> list[StudyRequest]:
    found: dict[str, dict[str, list[DocumentRequest]]] = {}
    for each in wanted:
        request = DocumentRequest(source, each.instance, home)
        found.setdefault(each.study, {}).setdefault(each.series, []).append(request)
    return [
        StudyRequest(study, tuple(SeriesRequest(uid, tuple(requests)) for uid, requests in series.items()))
        for study, series in found.items()
    ]


def _missing(left: Iterable[str], answer: RetrieveResponse) -> Failures:
    """RAD TF-2 section 4.69.4.2.3: an error's location is the document that it is about; others are about all that is missing."""
    general = [each for each in answer.errors if each.severity != ebrs.WARNING]
    failed = {}
    for uid in left:
        mine = [each for each in general if each.location == uid] or [each for each in general if not each.location]
        failed[uid] = codes(mine) if mine else codes(general) if general else NOT_SENT
    return failed


def _wado_uri(image: Image) -> str:
    """PS3.18 section 9.4.1: RAD-55, as DICOM in whatever transfer syntax the source takes for it."""
    uids = {"studyUID": image.study, "seriesUID": image.series, "objectUID": image.instance}
    return "?" + urlencode({"requestType": "WADO", **uids, "contentType": "application/dicom"})


def _wado_rs(image: Image) -> str:
    """PS3.18 section 10.4.1: RAD-107."""
    return f"/studies/{image.study}/series/{image.series}/instances/{image.instance}"
