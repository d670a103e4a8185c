"""Imagined experience: the model as an env, rollouts in it, and schedules of their length and frequency."""
