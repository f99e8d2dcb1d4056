"""One trial: K replicas (one per seed) of a soft prompt on a frozen encoder. PyTorch; Ray only in `trainable`."""
