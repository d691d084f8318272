"""PS3.4 annex B: sending files by C-STORE, their Data Sets byte for byte as they are."""

import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.association import Limits
from server.outbound.delivery import WHOLE, Delivered, Delivery, Payload, deliver
from server.outbound.files import Outgoing, Sent, sorted_out
from server.outbound.statuses import is_warning, meaning, plain

_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class _At:
    ae_title: str
    host: str
    port: int


def send(
    paths: Iterable[Path], host: str, port: int, *, called: str, calling: str = "IMAGESHARE", tls: ssl.SSLContext | None = None,
    timeout: float = 120.0,
) -> Iterator[Sent]:  # fmt: skip
    """PS3.4 section B.2: sends files to the AE `called` at `host:port`, and tells of each as soon as it is answered.

    Proposes what the files need, one presentation context for each pair of SOP Class and Transfer Syntax, in as many associations
    as that takes. Whatever fails is in the result of the file: nothing is raised. `timeout` in seconds is for each answer.
    """
    files, skipped = sorted_out(paths)
    yield from skipped
    for one in deliver(files, Delivery(_At(called, host, port), calling, _Files(), tls=tls, limits=Limits(silence=timeout))):
        yield _sent(one)


def _sent(one: Delivered[Outgoing]) -> Sent:
    file, status = one.instance, one.status
    if status is None:
        return Sent(file.path, 0, ok=False, reason=one.reason)
    if status == 0 or is_warning(status):
        return Sent(file.path, file.size, ok=True, status=status)
    reason = ": ".join(each for each in (meaning(status), plain(one.reason)) if each)
    return Sent(file.path, file.size, ok=False, status=status, reason=reason)


class _Files:
    """Files as a source: none is turned into anything else."""

    otherwise: Final[tuple[str, ...]] = ()

    def acceptable(self, instance: Outgoing, wanted: Sequence[str]) -> str | None:
        return instance.transfer_syntax if instance.transfer_syntax in wanted else None

    def payload(self, instance: Outgoing, syntax: str) -> Payload:
        """What stands in the file behind its File Meta Information. Raises `OSError`."""
        if instance.size - instance.dataset_offset > WHOLE:
            return _pieces(instance.path, instance.dataset_offset)
        with instance.path.open("rb", buffering=0) as file:
            file.seek(instance.dataset_offset)
            return file.read()


def _pieces(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while piece := file.read(_CHUNK):
            yield piece
