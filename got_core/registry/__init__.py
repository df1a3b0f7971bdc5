"""The MLflow registry: logging a finished pipeline, promoting it, and the model that consumers load.

Belongs here: everything that talks to MLflow about model versions. Not here: training runs' losses.
"""
