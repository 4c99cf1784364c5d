"""The web page where people look and judge, and what their verdicts come to."""
