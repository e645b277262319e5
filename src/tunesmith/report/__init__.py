"""What people look at: the loss curve and the summary of a run."""
