"""An edit watched and steered while it runs."""
