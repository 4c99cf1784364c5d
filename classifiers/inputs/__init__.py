"""What classifiers are told: vectors, context and columns of CCDs and exposures, with labels."""
