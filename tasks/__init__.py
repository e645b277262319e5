"""Prefect tasks: how a stage runs (name, retries, timeout, cache). What it does is in the library."""
