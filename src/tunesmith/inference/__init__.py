"""Batch prediction: files in, files out, in shards that a killed run keeps."""
