"""Read tables of any common kind: their columns, and their cells as text."""
