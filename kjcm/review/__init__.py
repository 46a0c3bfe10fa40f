"""Reviewers decide undecided rows: a page on this machine that saves each decision at once."""
