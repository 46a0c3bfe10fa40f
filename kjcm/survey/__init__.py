"""Raw survey files, or the synthetic twin, to the cohort: reading, wording, exclusions, split and flow counts."""
