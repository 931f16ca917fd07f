"""Paper venue: fills orders on bars that come after them."""
