"""Control of a run: acceptance of steps, damping, trust radius, termination."""
