"""What the rows mean: the catalogue of studies, FHIR resources, documents, and the audit trail."""
