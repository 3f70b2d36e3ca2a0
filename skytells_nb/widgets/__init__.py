"""What cells show: sanitised Markdown, live answers, one line of progress."""
