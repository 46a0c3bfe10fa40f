"""Finished runs to the paper's tables, figures and one page; never torch."""
