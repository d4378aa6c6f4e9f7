"""What an edit leaves: numbers, pictures, a report, splats in a file."""
