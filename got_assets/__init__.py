"""The Dagster graph: thin shells around got_core, which does the work and knows nothing of Dagster."""
