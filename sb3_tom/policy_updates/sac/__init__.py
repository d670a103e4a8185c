"""SAC's update: general, with gradients by hand where the networks are plain, recorded on CUDA, and SB3's own for the rest."""
