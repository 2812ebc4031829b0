"""A person's own model and data: read, split, called, scored and trained like the catalogue's. Only workers import it."""
