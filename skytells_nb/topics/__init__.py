"""Words and names of groups of texts."""
