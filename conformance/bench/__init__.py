"""Benchmarks over the wire, each beside a peer or a ceiling in the same run: `make bench`."""
