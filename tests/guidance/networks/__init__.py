"""Tests of pds_nerfstudio.guidance.networks, and tiny models of every kind."""
