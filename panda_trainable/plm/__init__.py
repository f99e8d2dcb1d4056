"""The frozen PLM: its files, and an encoder that takes soft prompts of K replicas at once."""
