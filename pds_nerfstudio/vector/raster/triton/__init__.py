"""The rasteriser of this folder's parent as a handful of Triton kernels."""
