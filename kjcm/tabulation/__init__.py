"""Tables of occupations from a coded file, with survey weights and the uncertainty of the coding."""
