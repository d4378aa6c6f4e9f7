"""One file an architecture: what a diffusion model is asked for, and how it is asked.

A network takes latents as pictures (batch, channels, height, width) and prompts as text. Packing, ids, signs and scales
of its own stay inside. `network` says what one is, `loading` finds the one for a model's name.
"""
