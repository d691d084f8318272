"""The authorization server: clients, grants, codes, refresh tokens, launches."""
