"""Operations: `/`, `/livez`, `/readyz` and `/metrics`, and what no edge answers. No patient data passes here."""

from server.edges.operations.routes import install as install
