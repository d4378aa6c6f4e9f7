"""Hash encodings and fused fields: nerfacto's costly parts, chosen by device."""
