"""A frame for others to read: a report page, a workbook, a styled table."""
