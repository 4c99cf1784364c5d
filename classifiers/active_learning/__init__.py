"""What to look at next: active learning after Green et al. (2025)."""
