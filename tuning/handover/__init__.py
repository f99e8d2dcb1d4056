"""What goes to other tools, and comes from them: adapters of winners, and prompts made elsewhere."""
