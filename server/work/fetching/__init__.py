"""Document Consumer and Imaging Document Consumer (IHE XDS-I.b): what another community has of a patient, brought here."""
