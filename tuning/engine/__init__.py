"""Many Optuna studies inside one Ray Tuner: journals, suggestions, searcher, scheduler, and the processes of trials."""
