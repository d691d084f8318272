"""The authorization server: SMART App Launch 2.2 on Authlib, a module for each grant or endpoint."""
