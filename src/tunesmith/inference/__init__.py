"""What a model that is there already is used for."""
