"""Predictions in less time, up to rounding. Each module says for which networks it is right.

merging and sharing: UNets of diffusers whose time and text embeddings enter as Stable Diffusion 1.x's and 2.x's do.
fusible: any network of group normalisations whose channels lie next to each other. compilation: any function of tensors
that traces as one graph.
"""
