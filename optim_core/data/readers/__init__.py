"""Bytes of a file to a frame of columns: one reader a format. What a column means is decided above."""
