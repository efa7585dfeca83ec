"""The training methods: each makes one iteration from a point."""
