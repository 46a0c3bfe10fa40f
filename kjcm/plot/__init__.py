"""Draw the figures of the report, W&B and tune in one style."""
