"""What is asked for each row: templates, row functions, few-shot examples and images."""
