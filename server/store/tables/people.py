"""People: accounts, what they sign in with, sessions, proxies."""
