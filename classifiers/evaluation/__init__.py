"""What models are worth: scores on what they have not seen, comparisons and reports."""
