"""The training methods: each does one iteration from a point."""
