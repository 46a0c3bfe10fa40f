"""Serve a finished run's model over HTTP: concurrent requests share batches, and nothing of their texts is logged."""
