"""What a model's probabilities may be trusted with: calibration, thresholds that keep a promise, pick lists, managers."""
