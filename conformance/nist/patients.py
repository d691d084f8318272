"""Patients of a run: ids in the target's authority, made known to the registry by ITI-8 before they are used."""

import uuid
from datetime import UTC, datetime

from conformance.nist import feed
from conformance.nist.target import Target
from conformance.nist.wire import NoAnswer, Wire


class FeedError(Exception):
    """The registry did not take a patient; the words say what it said."""


class Patients:
    """Patient ids of one run, each used for one test, or for all that share its data."""

    def __init__(self, target: Target, wire: Wire) -> None:
        self._target, self._wire = target, wire
        self._known = list(target.patients.known)
        self._fed: set[str] = set(target.patients.known)
        self._current: dict[str, str] = {}

    @property
    def fed(self) -> bool:
        """Whether there is a feed."""
        return bool(self._target.feed.host)

    def fresh(self) -> str:
        """A new id, not yet known to the registry; of the ids that it knows where there is no feed."""
        if not self.fed and self._known:
            return self._known.pop(0)
        return self.stranger()

    def stranger(self) -> str:
        """An id that nobody has been told of."""
        return f"P{uuid.uuid4().hex[:12].upper()}^^^&{self._target.patients.authority}&ISO"

    def current(self, test: str) -> str:
        """The patient of a test's own data, made known where there is a feed. Raises `FeedError`."""
        if test not in self._current:
            self._current[test] = self.fresh()
        self.make_known(self._current[test])
        return self._current[test]

    def used(self, test: str) -> str:
        """The patient that a test's data are of; empty where none was needed yet."""
        return self._current.get(test, "")

    def use(self, test: str, patient: str) -> None:
        """From now on a test's data are of this patient."""
        self._current[test] = patient

    def make_known(self, patient: str) -> str:
        """ADT^A01, once for each patient and if there is a feed; returns what was acknowledged. Raises `FeedError`."""
        if not self.fed or patient in self._fed:
            return "known before"
        words = self.send(feed.admitted(self.header(), patient))
        self._fed.add(patient)
        return words

    def header(self) -> feed.Header:
        """The header of a new message."""
        settings = self._target.feed
        return feed.Header(
            settings.sending, settings.receiving, f"{datetime.now(UTC):%Y%m%d%H%M%S}", uuid.uuid4().hex[:20].upper()
        )

    def send(self, message: bytes) -> str:
        """A message of the feed; returns what was acknowledged. Raises `FeedError`."""
        try:
            accepted, words = feed.acknowledged(self._wire.mllp(message))
        except NoAnswer as error:
            raise FeedError(str(error)) from None
        if not accepted:
            raise FeedError(f"the acknowledgment is {words}")
        return words
