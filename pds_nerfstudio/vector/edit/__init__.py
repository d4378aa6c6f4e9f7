"""The edit of a drawing: what moves, by which losses, and the command."""
