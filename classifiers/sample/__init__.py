"""What is learned from: labelled CCDs, their vectors, context and columns."""
