"""The bad-exposure list: its format, what is proposed, the change, the check."""
