"""SMART App Launch 2.2 and OAuth 2.0 at the door: `/oauth/*`, what the server says of itself, and who may call from another origin."""

from server.edges.smart.routes import install as install
