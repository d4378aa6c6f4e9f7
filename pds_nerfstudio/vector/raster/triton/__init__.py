"""The rasteriser of the folder above as a handful of Triton kernels."""
