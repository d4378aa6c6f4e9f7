"""Runs that are ended at any moment, by one command: python -m tests.robustness --trials 200."""
