"""The embedded world: procedural scenes with captions, their exact pictures, and the model trained on them."""
