"""SMART App Launch: the OAuth endpoints and discovery."""
