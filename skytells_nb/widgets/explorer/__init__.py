"""The explorer: a map of a frame's rows beside a table of them."""
