"""From an experiment to plans and studies: tasks and PLMs resolved, keys, jobs and checks."""
