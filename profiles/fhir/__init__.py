"""FHIR R4 as behaviour: reading, checking, changing and indexing resources as plain JSON objects. Pure functions over `profiles.r4`."""
