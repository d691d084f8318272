"""What the content means: pure functions and tables. No database, no HTTP, no clock, no global state."""
