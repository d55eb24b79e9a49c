"""The worker process: start, dispatch, health, limits and its end."""
