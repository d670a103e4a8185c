"""Double Horizon MBPO (Kubo et al. 2025, TMLR): pathwise gradients over short rollouts that start from long ones."""
