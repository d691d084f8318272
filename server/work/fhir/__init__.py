"""The interactions of FHIR R4 (section 3.1.0), a module for each: what the edge calls, and entries of a Bundle too."""
