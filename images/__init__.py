"""Files of CCD images: headers, pixels, what tells one from another, how they are shown."""
