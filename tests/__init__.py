"""Tests of pds_nerfstudio: a package, so that no other distribution's tests are taken for them."""
