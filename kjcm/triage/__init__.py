"""Rules on a model's probabilities: calibration, thresholds with a promised error, pick lists, managers."""
