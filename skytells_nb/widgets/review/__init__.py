"""Judging rows in the notebook: what was judged, in a file that only grows, and the widget that asks."""
