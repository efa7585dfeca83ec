"""What accepts a step, adapts the damping or the radius, and ends a run."""
