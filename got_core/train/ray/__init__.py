"""Training on Ray: the session, data-parallel jobs, progress lines of workers."""
