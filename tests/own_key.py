"""The key that lets tests in, as whoever runs the server: see ``create_app``."""

OWN_KEY = f"wo_{'0' * 12}_{'k' * 43}"
AS_OWNER = {"Authorization": f"Bearer {OWN_KEY}"}
