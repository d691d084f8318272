"""PS3.18 section 10.5: sending files by STOW-RS, streamed from disk."""

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx2
import orjson

from server.outbound.files import Outgoing, Sent, meaning, sorted_out

CHUNK = 1 << 18
_DICOM_JSON = "application/dicom+json"
_FINAL = (401, 403, 404, 405)
"""HTTP answers that the next request would get too."""


def send(
    paths: Iterable[Path],
    url: str,
    *,
    token: str | None = None,
    batch_files: int = 100,
    batch_bytes: int = 256 << 20,
    timeout: float = 120.0,
    client: httpx2.Client | None = None,
) -> Iterator[Sent]:
    """PS3.18 section 10.5: stores files at the DICOMweb service `url` (without `/studies`), and tells of each.

    A request carries up to `batch_files` files or `batch_bytes` bytes, one file at least. Whatever fails is in the result of the
    file: nothing is raised. `timeout` in seconds is for each step of a request.
    """
    files, skipped = sorted_out(paths)
    yield from skipped
    own = client is None
    web = client or httpx2.Client(timeout=timeout)
    try:
        refused = ""
        for batch in _batches(files, batch_files, batch_bytes):
            if refused:
                yield from _all(batch, refused)
                continue
            try:
                answer = _post(web, url, batch, token)
            except (httpx2.HTTPError, OSError) as error:
                yield from _all(batch, f"the request failed: {type(error).__name__}")
                continue
            if answer.status_code in _FINAL:
                refused = f"HTTP {answer.status_code} {answer.reason_phrase}"
                yield from _all(batch, refused)
                continue
            yield from _results(batch, answer)
    finally:
        if own:
            web.close()


def _batches(files: list[Outgoing], count: int, size: int) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    total = 0
    for file in files:
        if batch and (len(batch) >= count or total + file.size > size):
            yield batch
            batch, total = [], 0
        batch.append(file)
        total += file.size
    if batch:
        yield batch


def _post(web: httpx2.Client, url: str, batch: list[Outgoing], token: str | None) -> httpx2.Response:
    """PS3.18 section 10.5.1, with the length of the body said beforehand (PS3.18 section 8.6.1)."""
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(sum(len(head) + file.size + 2 for file in batch) + len(tail)),
        "Accept": _DICOM_JSON,
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return web.post(f"{url.rstrip('/')}/studies", content=_body(batch, head, tail), headers=headers)


def _body(batch: list[Outgoing], head: bytes, tail: bytes) -> Iterator[bytes]:
    for file in batch:
        yield head
        with file.path.open("rb") as source:
            left = file.size
            while left:
                data = source.read(min(CHUNK, left))
                if not data:
                    raise OSError("a file became shorter while it was sent")
                left -= len(data)
                yield data
        yield b"\r\n"
    yield tail


def _results(batch: list[Outgoing], answer: httpx2.Response) -> Iterator[Sent]:
    """PS3.18 section 10.5.3: the Referenced SOP and Failed SOP sequences of the answer, file by file."""
    try:
        told = orjson.loads(answer.content) if answer.content else {}
        stored = {_value(item, "00081155") for item in _items(told, "00081199")}
        failed = {_value(item, "00081155"): _value(item, "00081197") for item in _items(told, "00081198")}
    except (orjson.JSONDecodeError, AttributeError, TypeError, IndexError):
        stored, failed = set(), {}
    for file in batch:
        uid = file.sop_instance_uid
        if uid in failed:
            status = failed[uid]
            number = status if isinstance(status, int) else None
            yield Sent(file.path, file.size, ok=False, status=number, reason=meaning(number) if number is not None else "refused")
        elif uid in stored:
            yield Sent(file.path, file.size, ok=True, status=0)
        elif answer.is_success:
            yield Sent(file.path, file.size, ok=False, reason="the answer does not name this instance")
        else:
            yield Sent(file.path, file.size, ok=False, reason=f"HTTP {answer.status_code} {answer.reason_phrase}")


def _items(dataset: dict[str, dict[str, list[dict[str, object]]]], tag: str) -> list[dict[str, object]]:
    return dataset.get(tag, {}).get("Value", [])


def _value(item: dict[str, object], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _all(batch: list[Outgoing], reason: str) -> Iterator[Sent]:
    return (Sent(file.path, 0, ok=False, reason=reason) for file in batch)
