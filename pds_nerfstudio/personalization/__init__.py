"""A model taught one subject from pictures of it: DreamBooth (Ruiz et al. 2023) as a LoRA (Hu et al. 2022)."""
