"""The search for a mixture: its space, Optuna behind Ray Tune, early stopping, and the run that can be resumed."""
