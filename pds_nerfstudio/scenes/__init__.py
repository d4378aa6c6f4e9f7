"""The nerfstudio side of the plugin: pipeline, models and what they need from the host."""
