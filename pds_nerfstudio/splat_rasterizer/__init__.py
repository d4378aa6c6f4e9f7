"""A Gaussian-splat rasteriser in plain PyTorch; it knows nothing of nerfstudio."""
