"""What the service bears on two cores: mixed load, too much of it, units, listeners, uploads, and everything killed at once."""
