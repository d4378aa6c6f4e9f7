"""What "a good edit" means, in numbers: against the true edit in the embedded world, by CLIP elsewhere."""
