"""What models are worth: splits, scores on what they have not seen, comparisons."""
