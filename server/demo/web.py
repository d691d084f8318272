"""A FHIR and DICOMweb client that knows nothing but the wire."""

import json
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import httpx2

from ihe import multipart
from ihe.multipart import PartData, PartEnd, PartStart
from server.demo.story import Failed

Json = dict[str, Any]
_DISK_FROM = 32 << 20
"""A received file that is larger waits for its comparison on disk."""


class Web:
    """One server's HTTP side, asked with one token; `None` asks without."""

    def __init__(self, base: str, token: str | None = None) -> None:
        self.base = base
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy of the environment has no business between two loopback addresses.
        self._client = httpx2.Client(timeout=60, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def status(self, path: str, **parameters: str) -> int:
        """The HTTP status of a GET, whatever it is."""
        return self._client.get(self.base + path, params=parameters, headers=self._headers).status_code

    def fhir(self, path: str, **parameters: str) -> Json:
        """One resource or Bundle. Raises `Failed` for any other status than 200."""
        return cast(Json, self._json(f"{self.base}/fhir/{path}", "application/fhir+json", parameters))

    def pages(self, path: str, **parameters: str) -> Iterator[Json]:
        """The resources of a search, page after page."""
        bundle = self.fhir(path, **parameters)
        while True:
            for entry in bundle.get("entry", ()):
                yield entry["resource"]
            following = [link["url"] for link in bundle.get("link", ()) if link["relation"] == "next"]
            if not following:
                return
            bundle = self._json(following[0], "application/fhir+json", {})

    def qido(self, path: str, **parameters: str) -> list[Json]:
        """PS3.18 section 10.6: the matches. No match is an empty list."""
        return cast(list[Json], self._json(f"{self.base}/dicomweb/{path}", "application/dicom+json", parameters) or [])

    def rendered(self, path: str) -> bytes:
        """PS3.18 section 10.4.1.1.3: an instance as PNG."""
        answer = self._client.get(f"{self.base}/dicomweb/{path}/rendered", headers={**self._headers, "Accept": "image/png"})
        _require_success(answer)
        return answer.content

    def instances(self, path: str) -> Iterator[BinaryIO]:
        """PS3.18 section 10.4.1.1.1: the Part 10 files under a study, series or instance; each is valid until the next."""
        wanted = {**self._headers, "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        with self._client.stream("GET", f"{self.base}/dicomweb/{path}", headers=wanted) as answer:
            _require_success(answer)
            splitter = multipart.Splitter(multipart.boundary_of(answer.headers["Content-Type"]))
            events = (event for chunk in answer.iter_bytes() for event in splitter.feed(chunk))
            for _, file in parts(events):
                yield file
            splitter.close()

    def _json(self, url: str, accept: str, parameters: dict[str, str]) -> Any:
        answer = self._client.get(url, params=parameters or None, headers={**self._headers, "Accept": accept})
        _require_success(answer)
        return json.loads(answer.content) if answer.content else None


def parts(events: Iterator[object]) -> Iterator[tuple[PartStart, BinaryIO]]:
    """The parts of a multipart body as files, rewound; each is valid until the next."""
    start: PartStart | None = None
    with tempfile.SpooledTemporaryFile(_DISK_FROM) as file:
        for event in events:
            match event:
                case PartStart():
                    start = event
                    file.seek(0)
                    file.truncate()
                case PartData(data):
                    file.write(data)
                case PartEnd() if start is not None:
                    file.seek(0)
                    yield start, cast(BinaryIO, file)
                case _:
                    pass


def _require_success(answer: httpx2.Response) -> None:
    if answer.status_code not in (200, 204):
        raise Failed(f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}")


def values(match: Json, tag: str) -> list[Any]:
    """The values of one attribute in DICOM JSON (PS3.18 annex F)."""
    return cast(list[Any], match.get(tag, {}).get("Value", []))
