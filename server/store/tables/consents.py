"""What consents permit and deny, as rules that searches can look at."""
