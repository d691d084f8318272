"""The HL7 v2 port: the Patient Identity Feed (ITI-8) over MLLP, and over MLLP in TLS."""

from server.edges.mllp.port import PORT, MllpPort, listening, tls_context
from server.edges.mllp.senders import Senders

__all__ = ["PORT", "MllpPort", "Senders", "listening", "tls_context"]
