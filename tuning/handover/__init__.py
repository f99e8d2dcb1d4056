"""What goes to other tools and storages, and comes from them: adapters of winners, archives of source prompts, and prompts made elsewhere."""
