"""Tokens that turn out to be nothing: anybody may send any number of them, and each would have us ask its issuer."""

import threading
from collections import Counter
from time import monotonic
from typing import Final

from server.errors import Busy

_MOST: Final = 50
"""For one issuer within a second, in one process. Whose token was active before is not held up by others' guesses."""


class Guesses:
    """Counts, for each issuer, the tokens of this second that were nothing. Safe for threads."""

    def __init__(self) -> None:
        self._second = 0
        self._missed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def require_room(self, issuer: str) -> None:
        """Raises `Busy` where there were too many in this second."""
        if self._of_now()[issuer] >= _MOST:
            raise Busy("too many tokens that are not known came just now; try again")

    def missed(self, issuer: str) -> None:
        """One more was nothing."""
        self._of_now()[issuer] += 1

    def _of_now(self) -> Counter[str]:
        second = int(monotonic())
        with self._lock:
            if second != self._second:
                self._second, self._missed = second, Counter()
            return self._missed
