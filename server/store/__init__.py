"""What is kept: rows (`db`, `tables`, `migrations`), bytes (`blobs`) and work that is due (`jobs`)."""
