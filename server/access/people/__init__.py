"""People: accounts, how they sign in, sessions, proxies."""
