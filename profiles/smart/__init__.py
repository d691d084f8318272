"""SMART App Launch, pure: scopes, consents, what discovery says."""
