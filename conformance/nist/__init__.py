"""A runner for the test plans of NIST's XDS Toolkit, against any set of endpoints."""
