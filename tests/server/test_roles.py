"""How many files a process may open, and how many requests it takes for that."""

import subprocess
import sys

import pytest

_REFUSED = 3
_SAYS = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
except ValueError:
    sys.exit(3)
from server.roles import _allow_files, _most_requests
print(_allow_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0], *map(_most_requests, (1, 2, 64)))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "files", "requests"),
    [
        # 512 at once in all processes, three files for each and 256 besides; a few always.
        (300, 300, 300, (16, 16, 16)),
        (300, 1000, 1000, (248, 248, 16)),
        (300, 2000, 2000, (512, 256, 16)),
        (300, 3000, 3000, (512, 256, 16)),
        (1500, 1500, 1500, (414, 256, 16)),
        (300, 100_000, 65_536, (512, 256, 16)),
        (70_000, 100_000, 70_000, (512, 256, 16)),
    ],
)
def test_as_many_files_as_the_system_lets_it_and_requests_for_them(
    soft: int, hard: int, files: int, requests: tuple[int, ...]
) -> None:
    command = [sys.executable, "-c", _SAYS, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == _REFUSED:
        pytest.skip(f"a process may not have {hard} files open here (ulimit -Hn)")
    assert [int(each) for each in done.stdout.split()] == [files, files, *requests], done.stderr
