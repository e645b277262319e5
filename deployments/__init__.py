"""Schedules, triggers, work pools (`prefect.yaml`) and the shipped recipes."""
