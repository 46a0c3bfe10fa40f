"""Finished runs to the article's tables, figures and one page; never torch."""
