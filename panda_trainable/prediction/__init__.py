"""Winners as folders, and what they answer to new rows: class, value, tags, answer or text. Imports no Ray, MLflow, Optuna."""
