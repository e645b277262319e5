"""Prefect flows: which stages, in what order. One public flow a file."""
