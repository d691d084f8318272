"""Operations: `/livez`, `/readyz` and `/metrics`. No patient data passes here."""

from server.edges.operations.routes import install as install
