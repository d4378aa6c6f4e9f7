"""Tests of pds_nerfstudio.guidance, one file a module."""
