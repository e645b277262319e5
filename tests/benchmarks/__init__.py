"""Benchmarks: two ways in one run, alternating, as ratios with their spread. `make bench` runs them all."""
