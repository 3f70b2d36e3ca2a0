"""Charts and tables of what the safety filter reported."""
