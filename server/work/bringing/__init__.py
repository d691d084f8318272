"""What people bring in from a browser: a CD, a folder, a ZIP file."""
