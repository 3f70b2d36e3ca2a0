"""Progress of long steps: the events, and the line that shows them."""
