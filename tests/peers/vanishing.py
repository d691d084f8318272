"""A client behind a cable of its own that is pulled: nothing answers for its address any more, and the kernel says so after a while.

It takes two networks that are nobody else's, which Linux gives to everybody who may have a user namespace.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_CLIENT = """
import socket, subprocess, sys, time
print("there", flush=True)
port = int(sys.stdin.readline())
for each in ("link set lo up", "addr add 10.9.0.2/24 dev v1", "link set v1 up"):
    subprocess.run(["ip", *each.split()], check=True)
with socket.create_connection(("10.9.0.1", port)) as connection:
    connection.sendall(b"POST / HTTP/1.1\\r\\nHost: here\\r\\nContent-Length: 200000\\r\\n\\r\\n" + bytes(200000))
    while connection.recv(65536):
        time.sleep(0.01)
"""
_CABLE = """
import socket, subprocess, sys
from pathlib import Path

def ip(what, *before):
    subprocess.run([*before, "ip", *what.split()], check=True)

tester = socket.socket(fileno=int(sys.argv[1]))
client = subprocess.Popen(["unshare", "-n", sys.executable, "-c", sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
client.stdout.readline()
try:
    ip("link add v0 type veth peer name v1")
    ip(f"link set v1 netns {client.pid}")
    for each in ("addr add 10.9.0.1/24 dev v0", "link set v0 up", "link set lo up"):
        ip(each)
    settings = Path("/proc/sys/net/ipv4")
    (settings / "tcp_retries2").write_text("3")
    for name, value in (("mcast_solicit", "1"), ("ucast_solicit", "1"), ("retrans_time_ms", "50")):
        (settings / "neigh" / "v0" / name).write_text(value)
    listening = socket.create_server(("10.9.0.1", 0))
    socket.send_fds(tester, [b"listening"], [listening.fileno()])
    while (word := tester.recv(100)) == b"come":
        print(listening.getsockname()[1], file=client.stdin, flush=True)
    if word == b"go":
        for each in ("link set v1 arp off", "addr flush dev v1"):
            ip(each, "nsenter", "-t", str(client.pid), "-n")
        ip("neigh flush dev v0")
        tester.recv(100)
finally:
    client.kill()
    client.wait()
"""


@dataclass(frozen=True)
class Cable:
    """`listening` is a socket in the network at its near end."""

    listening: socket.socket
    _other: socket.socket

    def come(self) -> None:
        """The client connects, POSTs to `/` more than is held of what nobody reads, and reads the answer slowly."""
        self._other.sendall(b"come")

    def pull(self) -> None:
        """It is gone without a word."""
        self._other.sendall(b"go")


@contextmanager
def cable() -> Iterator[Cable]:
    """Skips the test where there can be no such networks."""
    if any(shutil.which(each) is None for each in ("unshare", "nsenter", "ip")):
        pytest.skip("unshare, nsenter and ip are not installed (Debian: apt-get install util-linux iproute2)")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives its users no networks of their own (unshare -rn)")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["unshare", "-rn", sys.executable, "-c", _CABLE, str(theirs.fileno()), _CLIENT]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        try:
            _, (file, *_), *_ = socket.recv_fds(ours, 100, 1)
            with socket.socket(fileno=file) as listening:
                yield Cable(listening, ours)
        finally:
            ours.close()
            process.wait()
