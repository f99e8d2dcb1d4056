"""The frozen PLM: an encoder or language model that takes soft prompts of K replicas at once."""
