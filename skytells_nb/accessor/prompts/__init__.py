"""Prompts of rows: templates, row functions, few-shot examples and images."""
