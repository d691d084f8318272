"""Mutations of real input, for fuzzing: the same from the same seed, so that what is found can be found again."""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

_LENGTHS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_WORDS = (
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff", b"SQ\x00\x00\xff\xff\xff\xff", b"UN\x00\x00\xff\xff\xff\xff", b"../../", b"\r\n--", b"\r\n\r\n",
    b"\x1b$B", b"\x00" * 64, b"\xff" * 16,
)  # fmt: skip
SECONDS = float(os.environ.get("IMAGESHARE_FUZZ_SECONDS", "200" if os.environ.get("IMAGESHARE_TEST_DEEP") == "1" else "5"))
"""How long each target is fuzzed."""
_SLOW = 10.0
_GROWTH = 48 << 20


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to eight wounds: bits, lengths, words of the format, pieces cut, doubled, moved, or the end missing."""
    body = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not body:
            break
        at = chance.randrange(len(body))
        match chance.randrange(8):
            case 0:
                body[at] ^= 1 << chance.randrange(8)
            case 1:
                width = chance.choice((1, 2, 4))
                length = (chance.choice(_LENGTHS) & (1 << 8 * width) - 1).to_bytes(width, "little")
                body[at : at + width] = length if chance.randrange(2) else length[::-1]
            case 2:
                word = chance.choice(_WORDS)
                body[at : at + len(word)] = word
            case 3:
                word = chance.choice(_WORDS)
                body[at:at] = word
            case 4:
                del body[at : at + chance.choice((1, 2, 4, 8, 100, 5000))]
            case 5:
                piece = body[at : at + chance.choice((1, 8, 40, 300))]
                body[at:at] = piece * chance.choice((1, 2, 30))
            case 6:
                del body[at:]
            case _:
                body[at] = chance.randrange(256)
    return bytes(body)


def fuzz(
    target: Callable[[bytes], object],
    seeds: Sequence[bytes],
    expected: tuple[type[Exception], ...],
    *,
    seed: int = 0,
    seconds: float = SECONDS,
) -> int:
    """Calls `target` with mutations of `seeds` for so many seconds; returns how often.

    Fails for any exception but `expected`, for a call that takes 10 s, and where memory grows by 48 MiB after the first
    quarter. What did it is kept under `build/fuzz`.
    """
    chance = random.Random(seed)
    process = psutil.Process()
    ends = time.monotonic() + seconds
    settled = time.monotonic() + seconds / 4
    before: int | None = None
    count = 0
    while time.monotonic() < ends:
        data = mutated(chance.choice(seeds), chance)
        began = time.monotonic()
        try:
            target(data)
        except expected:
            pass
        except BaseException:
            _keep(data, f"{target.__name__}-{seed}-{count}")
            raise
        if time.monotonic() - began > _SLOW:
            _keep(data, f"{target.__name__}-{seed}-{count}")
            raise AssertionError(f"input {count} of seed {seed} took {time.monotonic() - began:.0f} s")
        if before is None and time.monotonic() > settled:
            before = process.memory_info().rss
        count += 1
    grown = process.memory_info().rss - (before or 0)
    assert before is None or grown < _GROWTH, f"memory grew by {grown >> 20} MiB in {count} inputs"
    return count


def _keep(data: bytes, name: str) -> None:
    folder = Path("build/fuzz")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
