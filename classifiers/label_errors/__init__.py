"""Labels that the vectors contradict."""
