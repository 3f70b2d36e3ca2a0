"""Figures and tables as one page that needs no network."""
