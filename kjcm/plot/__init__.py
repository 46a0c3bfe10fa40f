"""One style for the pictures of the report, W&B and tune."""
