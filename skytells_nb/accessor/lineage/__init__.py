"""What made each column: recorded with the frame, read back from it, and recognized where pandas dropped it."""
