"""Sample data that a fresh machine can fetch."""
