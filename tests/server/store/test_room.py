"""Room on a disk: asked now and then, counted in between."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.errors import StorageFull
from server.store.room import Room


def test_the_disk_is_asked_now_and_then_and_what_is_written_counts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [100.0], []

    def statvfs(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(f_bavail=10, f_frsize=100)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    left = Room(tmp_path)
    left.require(900)
    left.require(900, written=50)
    assert len(asked) == 1
    with pytest.raises(StorageFull):
        left.require(900, written=51)
    now[0] += 1
    left.require(1000)
    assert len(asked) == 2
    with pytest.raises(StorageFull):
        left.require(1001)


def test_without_a_reserve_nobody_is_asked(tmp_path: Path) -> None:
    Room(tmp_path / "not there").require(0, written=1 << 62)
