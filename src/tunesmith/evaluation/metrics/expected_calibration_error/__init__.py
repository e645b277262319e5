"""The metric `expected_calibration_error`."""
