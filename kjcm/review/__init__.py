"""A person settles what a coding left open: a page on this machine, each decision kept at once."""
