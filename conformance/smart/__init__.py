"""A black-box kit for SMART App Launch and SMART Imaging Access."""
