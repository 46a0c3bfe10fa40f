"""Finished runs to numbers: which runs belong together, their metrics, and how uncertain the metrics are."""
