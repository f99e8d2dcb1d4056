"""One run: students and their heads, task and distillation losses, optimiser, metrics."""
