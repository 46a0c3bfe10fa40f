"""The W&B project of runs: its saved workspace, reports of sweeps, and the upload of offline runs."""
