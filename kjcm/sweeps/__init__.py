"""Multiruns: which jobs there are, which GPU each gets, and how each ends."""
