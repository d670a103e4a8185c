"""The confidences of this package: weights of imagined rows."""
