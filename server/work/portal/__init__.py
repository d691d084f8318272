"""What patients, those whom they share with, and the staff of a site see on pages: studies, pictures, reports, codes, shares."""
