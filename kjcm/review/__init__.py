"""Reviewers decide undecided rows: a page on this machine that saves each decision at once."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine reaches
