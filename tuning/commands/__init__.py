"""Commands of `panda-tune`, each a thin call of functions that a notebook can call, and what they share."""
