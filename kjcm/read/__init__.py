"""Tables of any common kind: which columns they have, and their cells as text."""
