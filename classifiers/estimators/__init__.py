"""The classifiers of CCDs, their settings, and the search for better ones."""
