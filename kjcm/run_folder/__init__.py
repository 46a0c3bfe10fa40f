"""Run folders: their identity, contents, lease and state, their model folder and card, and lists of them; no torch."""
