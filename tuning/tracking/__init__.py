"""What MLflow is told, and its only writer during a search."""
