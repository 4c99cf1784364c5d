"""A survey's files into the lake: CCD tables, image headers, bad-exposure lists."""
