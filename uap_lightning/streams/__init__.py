"""What several images that carry one perturbation give away: find it, estimate it, know it."""
