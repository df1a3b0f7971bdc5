"""Alerts: what is wrong at a moment, what of it is news, and telling a webhook."""
