"""The models of a lake, and the card that describes each."""
