"""`imageshare demo`: a real server, real input, and every face of one study shown over the wire."""

from server.demo.chapters import run

__all__ = ["run"]
