"""What several hosts' networks are said again with, from the numbers in a file alone."""
