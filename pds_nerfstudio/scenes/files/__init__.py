"""Splats in files of other tools, in and out: which numbers they hold, where they lie, and their formats."""
