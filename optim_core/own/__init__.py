"""A person's own model and data: read, split, called, scored and trained like the catalogue's. Their code runs here alone."""
