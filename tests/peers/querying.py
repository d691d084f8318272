"""Peers that query and retrieve: pynetdicom as SCU, dcmtk's programs, and a node with studies on a real port."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context, build_role

from profiles.query_retrieve import MODELS, STUDY_ROOT
from server.edges import dimse
from server.edges.context import Node
from server.records.peers import Peer
from server.records.trail import events
from server.settings import Permission

QUERIED = tuple(uid for model in MODELS for uid in (model.find, model.move, model.get))


@dataclass
class Archive:
    """A node with its DICOM port open."""

    node: Node
    port: int

    def know(self, title: str, port: int, *permissions: Permission) -> None:
        """Makes a peer known that can be called on this machine, and may itself ask for what `permissions` say."""
        self.node.peers.add(Peer(title, host="127.0.0.1", port=port, permissions=frozenset(permissions)))

    def trail(self) -> list[dict[str, Any]]:
        """The events so far, oldest first."""
        with self.node.database.read() as connection:
            return [orjson.loads(event.body) for event in events(connection, limit=1000)][::-1]


@contextmanager
def archive(folder: Path, *instances: Made | bytes, **settings: Any) -> Iterator[Archive]:
    with node(folder, **settings) as opened:
        if instances:
            send(opened, *instances)
            publish_all(opened)
        port = dimse.serve(opened, ("127.0.0.1", 0))
        try:
            yield Archive(opened, port.address[1])
        finally:
            port.stop()


def identifier(level: str, **values: object) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for name, value in values.items():
        setattr(made, name, value)
    return made


@contextmanager
def associated(
    to: Archive,
    *,
    abstract_syntaxes: Sequence[str] = QUERIED,
    syntaxes: Sequence[str] = ("1.2.840.10008.1.2.1",),
    storage: Sequence[tuple[str, Sequence[str]]] = (),
    information: bytes | None = None,
    handlers: Sequence[Any] = (),
    calling: str = "SCU",
) -> Iterator[Association]:
    """`storage` are SOP Classes to be taken as SCP (C-GET); `information` is proposed for each query model."""
    entity = ApplicationEntity(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90  # of a busy machine
    contexts = [build_context(uid, list(syntaxes)) for uid in abstract_syntaxes]
    contexts += [build_context(uid, list(wanted)) for uid, wanted in storage]
    negotiation: list[Any] = [build_role(uid, scp_role=True) for uid, _ in storage]
    for uid in abstract_syntaxes if information is not None else ():
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = uid, information
        negotiation.append(item)
    association = entity.associate(
        "127.0.0.1", to.port, contexts=contexts, ae_title="IMAGESHARE", ext_neg=negotiation, evt_handlers=list(handlers)
    )
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def found(to: Archive, asked: Dataset, *, model: str = STUDY_ROOT.find, **how: Any) -> tuple[list[Dataset], Dataset, list[int]]:
    """The matches, the last response's Command Set, and all statuses."""
    with associated(to, abstract_syntaxes=[model], **how) as association:
        answers = list(association.send_c_find(asked, model))
    return [data for _, data in answers if data is not None], answers[-1][0], [status.Status for status, _ in answers]


@contextmanager
def storescp(program: Path, port: int, folder: Path, *options: str, title: str = "DEST") -> Iterator[Path]:
    """dcmtk's storescp on `port`; gives the folder that it fills."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(program), *options, "-od", str(folder), "-aet", title, str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await(port)
        yield folder
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("storescp does not listen")


def moved(
    to: Archive, asked: Dataset, destination: str, *, model: str = STUDY_ROOT.move, **how: Any
) -> list[tuple[Dataset, Dataset | None]]:
    """All responses to a C-MOVE."""
    with associated(to, abstract_syntaxes=[model], **how) as association:
        return [(status, data) for status, data in association.send_c_move(asked, destination, model)]


def got(
    to: Archive, asked: Dataset, storage: Sequence[tuple[str, Sequence[str]]], *, model: str, answer: int = 0, **how: Any
) -> tuple[list[tuple[Dataset, Dataset | None]], list[Any]]:
    """All responses to a C-GET, and the C-STORE requests that it brought, each as its event."""
    stored: list[Any] = []

    def take(event: evt.Event) -> int:
        stored.append(
            (
                str(event.request.AffectedSOPInstanceUID),  # type: ignore[union-attr]
                event.context.transfer_syntax,
                event.encoded_dataset(include_meta=False),
            )
        )
        return answer

    handlers = [(evt.EVT_C_STORE, take)]
    with associated(to, abstract_syntaxes=[model], storage=storage, handlers=handlers, **how) as association:
        return [(status, data) for status, data in association.send_c_get(asked, model)], stored
