"""A person's own model and data: their code is imported and called here, and nowhere else. Only workers import this room."""
