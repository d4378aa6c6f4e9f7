"""What of a scene may change: a box, or what masks of its views show; everything else is held, to the bit."""
