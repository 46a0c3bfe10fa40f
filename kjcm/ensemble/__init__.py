"""Ensembles of models: their members, the combination of the members' scores, and their files."""
