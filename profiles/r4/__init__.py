"""FHIR R4 4.0.1 as data: element definitions, search parameters, compartments and terminology of the official package `hl7.fhir.r4.core`."""
