"""The web page where people look and judge."""
