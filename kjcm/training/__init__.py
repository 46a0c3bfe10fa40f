"""The commands that fill or measure a run: train, baseline, evaluate and prepare."""
