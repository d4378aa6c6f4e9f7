"""Pictures edited by text: any file in, the same size and mode out."""
