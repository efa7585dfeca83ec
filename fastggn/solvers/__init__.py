"""One damped Newton system, and the step that solves it."""
