"""Content-addressed artifacts: written aside, sealed with a manifest, made visible in one step, verified on use."""
