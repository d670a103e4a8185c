"""Checks of arguments, and of numbers that training cannot go on with."""
