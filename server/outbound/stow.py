"""PS3.18 section 10.5: sending files by STOW-RS, streamed from disk."""

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx2
import orjson

from server.outbound import unreached
from server.outbound.files import Outgoing, Sent, sorted_out
from server.outbound.statuses import meaning, plain

CHUNK = 1 << 18
_DICOM_JSON = "application/dicom+json"
_FINAL = {
    401: "set IMAGESHARE_TOKEN to an access token that this server takes",
    403: "the access token does not allow it; set IMAGESHARE_TOKEN to one that does",
    404: "there is no DICOMweb service at this URL",
    405: "there is no DICOMweb service at this URL, or it stores nothing",
}
"""HTTP answers that the next request would get too, and what to do about them."""
_NOBODY = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)


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
                reason = unreached.why(error, "a DICOMweb service")
                refused = reason if isinstance(error, _NOBODY) else ""
                yield from _all(batch, reason)
                continue
            if answer.status_code in _FINAL:
                refused = f"{_status(answer)}: {_FINAL[answer.status_code]}"
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
    """PS3.18 section 10.5.3: the Referenced SOP, Failed SOP and Other Failures sequences of the answer, file by file.

    An item of Other Failures (0008,119A) names no instance: those that nothing else is said of get its reason.
    """
    try:
        told = orjson.loads(answer.content) if answer.content else {}
        stored = {_value(item, "00081155") for item in _items(told, "00081199")}
        failed = {_value(item, "00081155"): _failure(item) for item in _items(told, "00081198")}
        others = [_failure(item) for item in _items(told, "0008119A")]
    except (orjson.JSONDecodeError, AttributeError, TypeError, IndexError):
        told, stored, failed, others = {}, set(), {}, []
    unnamed = [file for file in batch if file.uid not in failed.keys() | stored]
    otherwise = iter(others if len(others) == len(unnamed) else [_together(others)] * len(unnamed) if others else [])
    for file in batch:
        uid = file.uid
        if uid in failed:
            yield _refused(file, *failed[uid])
        elif uid in stored:
            yield Sent(file.path, file.size, ok=True, status=0)
        elif other := next(otherwise, None):
            yield _refused(file, *other)
        elif answer.is_success:
            yield Sent(file.path, file.size, ok=False, reason="the answer does not name this instance")
        else:
            detail = plain(told.get("detail")) if isinstance(told, dict) else ""  # RFC 9457
            yield Sent(file.path, file.size, ok=False, reason=f"{_status(answer)}: {detail}" if detail else _status(answer))


def _failure(item: dict[str, object]) -> tuple[int | None, str]:
    """Failure Reason (0008,1197) and, where the server gives one, its Error Comment (0000,0902)."""
    status = _value(item, "00081197")
    return status if isinstance(status, int) else None, plain(_value(item, "00000902"))


def _told(status: int | None, comment: str) -> str:
    return ": ".join(each for each in (meaning(status) if status is not None else "", comment) if each) or "refused"


def _refused(file: Outgoing, status: int | None, comment: str) -> Sent:
    return Sent(file.path, file.size, ok=False, status=status, reason=_told(status, comment))


def _together(failures: list[tuple[int | None, str]]) -> tuple[int | None, str]:
    """One reason for files that cannot be told apart."""
    if len(set(failures)) == 1:
        return failures[0]
    return None, "one of: " + "; ".join(dict.fromkeys(_told(*each) for each in failures))


def _status(answer: httpx2.Response) -> str:
    return f"HTTP {answer.status_code} {answer.reason_phrase}".rstrip()


def _items(dataset: dict[str, dict[str, list[dict[str, object]]]], tag: str) -> list[dict[str, object]]:
    return dataset.get(tag, {}).get("Value", [])


def _value(item: dict[str, object], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _all(batch: list[Outgoing], reason: str) -> Iterator[Sent]:
    return (Sent(file.path, 0, ok=False, reason=reason) for file in batch)
