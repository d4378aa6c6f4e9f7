"""Edit NeRFs, 3D Gaussian splats, SVGs and pictures by text with Posterior Distillation Sampling."""
