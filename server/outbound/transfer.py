"""Stored instances as a source of what is sent (`delivery`): as they are stored wherever the peer takes that.

What the peer does not take in its stored transfer syntax goes through a transcoder that the caller brings along.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from typing import Final, Protocol

from profiles.vocabulary import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from server.errors import ImageShareError
from server.outbound.delivery import WHOLE, Payload
from server.records.catalogue import StoredInstance
from server.store.blobs import BlobStore

_UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


class Transcoder(Protocol):
    """How an instance gets into a transfer syntax that it is not stored in (`server.work`)."""

    def acceptable(self, instance: StoredInstance, wanted: Sequence[str]) -> str | None:
        """The one of `wanted` that this instance can be had in, None for none."""

    def data_set(self, blobs: BlobStore, instance: StoredInstance, syntax: str) -> Payload:
        """The Data Set in that transfer syntax. Raises `ImageShareError`."""


class Stored:
    """Instances of one blob store."""

    otherwise: Final = _UNCOMPRESSED

    def __init__(self, blobs: BlobStore, transcoder: Transcoder) -> None:
        self._blobs, self._transcoder = blobs, transcoder

    def acceptable(self, instance: StoredInstance, wanted: Sequence[str]) -> str | None:
        """The one of `wanted` that this instance can be turned into, None for none."""
        return self._transcoder.acceptable(instance, wanted)

    def payload(self, instance: StoredInstance, syntax: str) -> Payload:
        """The Data Set in that transfer syntax. Raises `ImageShareError`."""
        if syntax != instance.transfer_syntax:
            return self._transcoder.data_set(self._blobs, instance, syntax)
        if instance.size - instance.dataset_offset > WHOLE:
            self._read_ahead(instance)
            return self._blobs.stream(instance.blob_id, instance.dataset_offset)
        with self._blobs.open(instance.blob_id) as file:
            file.seek(instance.dataset_offset)
            return file.read()

    def _read_ahead(self, instance: StoredInstance) -> None:
        """Tells the system that the beginning of this file is read next, while another one is on the wire."""
        with contextlib.suppress(OSError, ImageShareError, io.UnsupportedOperation), self._blobs.open(instance.blob_id) as file:
            os.posix_fadvise(file.fileno(), 0, min(instance.size, WHOLE), os.POSIX_FADV_WILLNEED)
