"""The lake: table schemas, partitions, atomic writes, and reading a survey's files into it."""
