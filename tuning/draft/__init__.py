"""A first experiment file from a folder of data: what can be guessed stands there with its reason, what cannot is asked."""
