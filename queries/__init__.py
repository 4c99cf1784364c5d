"""The SQL, one file per question, and the few lines of Python that run it."""
