"""The DICOM Conformance Statement (PS3.2 annex N), written from the tables that the program itself uses.

`template.md` is the text; where it says `{{name}}`, `document` puts the table of that name. `python -m server.statement` prints
the whole, `make statement` writes docs/dicom-conformance-statement.md.
"""
