"""What a model that is there already is used for: predictions for files, in shards that a killed run keeps; chat."""
