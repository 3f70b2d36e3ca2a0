"""Which rows are the most: similar to a query, or by a criterion that a model judges, by scores or in pairs."""
