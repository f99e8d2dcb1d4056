"""One trial: K replicas of a soft prompt on a frozen encoder. Pure PyTorch; Ray only in `trainable`."""
