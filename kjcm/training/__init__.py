"""The commands that make or evaluate a run: train, baseline, evaluate and prepare."""
