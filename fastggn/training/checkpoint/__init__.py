"""A run as a file from which it can go on."""
