"""SAC's update in four forms: autograd, hand-written gradients, CUDA graph, SB3's ``train``."""
