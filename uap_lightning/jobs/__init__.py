"""Everything that knows Hydra: configs, the frame of a job, and the body of each command."""
