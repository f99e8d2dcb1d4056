"""What `panda-tune predict` does: from a folder, a pinned file or MLflow's registry to answers in a file."""
