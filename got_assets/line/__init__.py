"""The data line and its trainings as figures: for alerts, and for Prometheus."""
