"""Pixels: decoding, encoding and display. `pool` runs in our processes; all other modules run in processes that may die."""
