"""Linear models of n-grams: their views of a row, their training, and their files."""
