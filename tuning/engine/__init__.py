"""Many Optuna studies inside one Ray Tuner: journals, searcher, scheduler."""
