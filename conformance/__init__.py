"""Black box: speaks only the wire. May import `ihe` and `profiles`, never `server`."""
