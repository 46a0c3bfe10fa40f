"""Build the cohort from raw survey files or the synthetic twin."""
