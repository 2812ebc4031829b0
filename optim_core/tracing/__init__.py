"""Paths of any optimizer on surfaces of two variables, to look at."""
