"""Occupational exposures of a coded file, by a job-exposure matrix."""
