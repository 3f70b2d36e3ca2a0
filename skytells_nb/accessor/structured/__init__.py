"""Structured output: schemas, their column types, validation and repair."""
