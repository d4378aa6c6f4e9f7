"""Distillation guidance: (image, source image, source prompt, target prompt) -> a gradient on the image.

Knows tensors and prompts only. It imports neither nerfstudio nor any editor; they import
:class:`~pds_nerfstudio.guidance.guidance.Guidance`.

    guidance         the one class: a render goes in, the gradient that edits it comes out
    config           everything that a person may set, checked once
    objectives       what is distilled, one file each: psi and chi are in objectives/pds.py
    gradient         an objective's two terms, and the mask between them
    masks            where an edit may act, averaged over the steps
    redraw           SDEdit: what the model makes of a render
    flow_edit        FlowEdit, FlowAlign, DVRF: edits from noise to none, without an optimiser
    schedule         signal and noise at a time, for discrete tables and for flows
    timesteps        how the time t of a step is drawn
    prompted         a denoiser under the source and the target prompt
    denoiser         one noise prediction for every network
    parametrization  what networks are shown and answer, made one
    networks         one file an architecture, and how its predictions are made cheaper
"""
