"""Asset definitions by group; each group has only the modules it needs."""
