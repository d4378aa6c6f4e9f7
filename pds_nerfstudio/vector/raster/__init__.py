"""From shapes and their numbers to pixels, with exact coverage and exact gradients."""
