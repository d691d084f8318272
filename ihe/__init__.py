"""What goes on the wire between IHE actors: sans-I/O codecs, bytes -> typed message, typed message -> byte chunks."""
