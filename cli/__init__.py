"""The commands: parse arguments, call, draw."""
