"""GoT as a library: chains, scenes, annotation, models, training, evaluation. Imports no orchestrator."""
