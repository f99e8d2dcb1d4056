"""What MLflow holds of an experiment: names, the only reader, values, and the analysis run's writer."""
