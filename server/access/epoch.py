"""The epoch, by which who decides knows that what somebody may do has changed (`server.records.epoch`, where Consents raise it as well)."""

from server.records.epoch import current, raise_

__all__ = ["current", "raise_"]
