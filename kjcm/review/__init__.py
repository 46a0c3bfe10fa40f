"""A person settles what a coding left open: a page on this machine, each decision kept at once."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine reaches
