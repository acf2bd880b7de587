"""What is not public in Hydra and used here all the same: it is as it was when it was read."""

import inspect

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobStatus


def test_a_jobs_return_value_is_a_property_that_raises_what_failed():
    """``launch`` replaces it for a while, so that a sweep goes on past a failed job."""
    kept = JobReturn.return_value
    assert isinstance(kept, property)
    assert kept.fset is not None
    job = JobReturn()
    job.return_value = error = ValueError("x")
    job.status = JobStatus.FAILED
    assert job._return_value is error
    with pytest.raises(ValueError, match="x"):
        _ = job.return_value
    job.status = JobStatus.COMPLETED
    assert job.return_value is error
    assert {"cfg", "hydra_cfg"} <= set(inspect.signature(JobReturn).parameters)


def test_the_parser_of_the_command_line_tells_overrides_from_options():
    """``ddp`` starts the other processes of a sweep's job with its options and own overrides."""
    words = ["-m", "--config-dir=mine", "network=a,b", "~callbacks.panel", "hydra.searchpath=[x]"]
    overrides = get_args_parser().parse_args(words).overrides
    assert overrides == ["network=a,b", "~callbacks.panel", "hydra.searchpath=[x]"]
