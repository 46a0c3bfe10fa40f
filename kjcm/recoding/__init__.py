"""Convert coded rows to another classification; a run's model decides among the codes of a correspondence."""
