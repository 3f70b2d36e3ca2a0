"""Skytells language models inside notebooks."""

__version__ = "0.1.0"
