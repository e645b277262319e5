"""The one MLflow run of a candidate, and the registry of what was made. The only importer of mlflow."""
