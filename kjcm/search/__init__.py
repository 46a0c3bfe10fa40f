"""Search for codes: by code, by titles and parts of them, unfinished, misspelt and similar, and by a run's model."""
