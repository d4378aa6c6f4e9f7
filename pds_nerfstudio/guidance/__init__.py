"""Distillation guidance: (image, source image, source prompt, target prompt) -> a gradient on the image.

Knows tensors and prompts only. It imports neither nerfstudio nor any editor; they import
:class:`~pds_nerfstudio.guidance.guidance.Guidance`.

    objectives    psi, chi and each objective as a row of one form: new objectives go here
    timesteps     how the diffusion time t is drawn
    denoiser      a diffusers pipeline behind one noise prediction (loading, prompts: its parts)
    latents       image size for the model, cache of source latents
    localization  the mask that keeps an edit where the prompts differ
    guidance      configuration, and the class that turns a render into a loss
"""
