"""Double Horizon MBPO (Kubo et al. 2025, TMLR): the policy climbs short paths that begin where long ones lead."""
