"""Search for hyperparameters: a search space, Optuna's proposals, and one run folder per trial."""
