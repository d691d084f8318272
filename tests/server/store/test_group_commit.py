"""Group commit: everyone is committed once, who waits together goes together, and nobody waits for ever."""

import threading
from collections.abc import Sequence
from functools import partial

import pytest
from peers.together import together

from server.store.group_commit import GroupCommit


def test_every_item_is_committed_once_and_by_one_thread_at_a_time() -> None:
    groups: list[list[tuple[int, int]]] = []
    busy = threading.Lock()

    def commit(items: Sequence[tuple[int, int]]) -> None:
        assert busy.acquire(blocking=False)
        groups.append(list(items))
        busy.release()

    commits = GroupCommit(commit, limit=5)

    def work(thread: int) -> None:
        for number in range(0, 60, 2):
            commits.join([(thread, number), (thread, number + 1)])
            assert any((thread, number + 1) in group for group in groups)

    assert together(*(partial(work, thread) for thread in range(6))) == []
    done = [item for group in groups for item in group]
    assert sorted(done) == [(thread, number) for thread in range(6) for number in range(60)]
    for thread in range(6):
        assert [item for item in done if item[0] == thread] == [(thread, number) for number in range(60)], "in its order"
    assert max(len(group) for group in groups) <= 5


def test_who_waits_at_the_same_moment_goes_together() -> None:
    groups: list[list[int]] = []
    first, others = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> None:
        groups.append(list(items))
        if len(groups) == 1:
            first.set()
            others.wait(20)

    commits = GroupCommit(commit)
    threads = [threading.Thread(target=commits.join, args=([0],))]
    threads[0].start()
    assert first.wait(20)
    for number in range(1, 6):
        threads.append(threading.Thread(target=commits.join, args=([number],)))
        threads[-1].start()
        while len(commits._waiting) < number:
            pass
    others.set()
    for thread in threads:
        thread.join(20)
    assert groups == [[0], [1, 2, 3, 4, 5]]


def test_more_than_the_limit_of_one_caller_still_goes() -> None:
    groups: list[list[int]] = []
    GroupCommit[int](lambda items: groups.append(list(items)), limit=2).join(range(7))
    assert groups == [list(range(7))]


def test_an_error_reaches_everyone_of_the_group_and_nobody_else() -> None:
    def commit(items: Sequence[int]) -> None:
        if 1 in items:
            raise RuntimeError("broken")

    commits = GroupCommit(commit)
    commits.join([0])
    with pytest.raises(RuntimeError, match="broken"):
        commits.join([1])
    commits.join([2])
