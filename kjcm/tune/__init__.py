"""The search for hyperparameters: a space, Optuna's proposals, and a run folder a trial."""
