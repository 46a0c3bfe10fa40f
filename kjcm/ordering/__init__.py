"""The order of review in which the first decisions teach a model most."""
