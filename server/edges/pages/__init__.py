"""What people see: sign-in, consent, account."""
