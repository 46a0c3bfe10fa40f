"""Raw survey files, or the synthetic twin, to the cohort."""
