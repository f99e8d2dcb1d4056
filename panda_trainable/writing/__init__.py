"""Answers that a language model writes: their tokens, the states that predict them, and greedy decoding behind prompts."""
