"""Orchestration: the work itself in plain Python, Prefect flows around it, and the command line."""
