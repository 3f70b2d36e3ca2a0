"""Charts of columns compared with judged rows: scores of labels and corrected shares, with their intervals."""
