"""Many studies, read from MLflow alone: needs neither torch nor Ray."""
