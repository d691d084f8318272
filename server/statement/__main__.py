"""Writes the statement to standard output."""

import sys

from server.statement.document import statement

sys.stdout.write(statement())
