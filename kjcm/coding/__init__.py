"""A finished run codes files."""
