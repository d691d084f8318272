"""What the system does: take in, publish, retrieve."""
