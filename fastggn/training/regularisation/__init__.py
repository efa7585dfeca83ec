"""Weight decay by evidence or validation, and the null-space regulariser."""
