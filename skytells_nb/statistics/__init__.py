"""Estimates and agreement from a sample of judged rows, in numpy: intervals, sampling, corrected shares and means."""
