"""Sets of perturbations: the bank P, the synthetic P_s, and how training draws from P*."""
