"""The frozen PLM: its files, and an encoder or language model that takes soft prompts of K replicas at once."""
