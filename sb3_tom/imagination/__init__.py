"""Imagined experience: what stands in for the env, rollouts in it, and how long and how often they are made."""
