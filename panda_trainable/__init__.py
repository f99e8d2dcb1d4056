"""One trial: K replicas (one per seed) of a soft prompt on a frozen PLM. PyTorch; Ray only in `trainable`."""
