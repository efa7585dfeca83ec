"""Minima at infinity: channels of merging units, saturated units, units that become linear."""
