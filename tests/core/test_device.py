"""Which process writes, by what its starter says."""

import pytest

from uap_lightning.core.device import is_first

KNOWN = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID", "SLURM_JOB_ID")


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ("", True),
        # handed on by a job script, with and without a job around it
        ("SLURM_PROCID=3", True),
        ("SLURM_PROCID=3 SLURM_JOB_ID=7 SLURM_NTASKS=4", True),
        ("SLURM_PROCID=3 SLURM_STEP_ID=0 SLURM_NTASKS=1", True),
        ("RANK=1", True),
        ("LOCAL_RANK=1", True),
        ("RANK=1 WORLD_SIZE=1", True),
        # srun -n 4
        ("SLURM_PROCID=3 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=4", False),
        ("SLURM_PROCID=0 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=4", True),
        # torchrun; on a second machine, where the first process has local number 0
        ("RANK=1 LOCAL_RANK=1 WORLD_SIZE=2", False),
        ("RANK=2 LOCAL_RANK=0 WORLD_SIZE=4", False),
        ("RANK=0 LOCAL_RANK=0 WORLD_SIZE=2", True),
        # torchrun within a step of srun numbers its own
        ("RANK=0 WORLD_SIZE=2 SLURM_PROCID=1 SLURM_STEP_ID=0 SLURM_NTASKS=2", True),
        # what Lightning starts
        ("LOCAL_RANK=1 NODE_RANK=0 WORLD_SIZE=2", False),
        ("LOCAL_RANK=0 NODE_RANK=1 WORLD_SIZE=4", False),
        ("LOCAL_RANK=0 NODE_RANK=0 WORLD_SIZE=2", True),
    ],
)
def test_the_first_is_told_by_whoever_started_several(monkeypatch, environment, first):
    for name in (*KNOWN, *SLURM):
        monkeypatch.delenv(name, raising=False)
    for word in environment.split():
        monkeypatch.setenv(*word.split("="))
    assert is_first() == first
