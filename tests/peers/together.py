"""Things that happen at the same time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def together(*work: Callable[[], object]) -> list[BaseException]:
    """Does all of `work` at once, each in a thread of its own. What they raised, in the order of `work`."""
    start = threading.Barrier(len(work))

    def each(one: Callable[[], object]) -> None:
        start.wait()
        one()

    with ThreadPoolExecutor(len(work)) as pool:
        futures = [pool.submit(each, one) for one in work]
    return [error for future in futures if (error := future.exception()) is not None]
