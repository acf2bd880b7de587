"""Hostile files in the place of published perturbations: each ends in one sentence."""

import io
import os
import pickle
import re

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from tests.perturbations.stated import HWC, LINF
from uap_lightning.core.errors import UapError
from uap_lightning.perturbations.published import read_published as read


def claiming(path, shape):
    """A .npy file whose header claims a shape that its bytes do not fill."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))


def bomb(path):
    """A compressed archive of zeros under the name of an array."""
    content = io.BytesIO()
    np.savez_compressed(content, v=np.zeros(10**6))
    path.write_bytes(content.getvalue())


def unfilled(path):
    """An HDF5 array of petabytes that takes no room in the file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("v", (10**7, 10**7, 3), chunks=(1000, 1000, 3), dtype="f8")


def of_itself(path):
    """An HDF5 group that holds itself."""
    with h5py.File(path, "w") as file:
        file["v"] = np.ones(3)
        file["more"] = file["/"]


def stretched(path):
    """A tensor of petabytes that repeats a single number."""
    torch.save(torch.ones(1).expand(3, 10**7, 10**7).detach(), path)


HOSTILE = {
    "objects.npy": lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    "claims.npy": lambda path: claiming(path, (10**6, 10**6, 3)),
    "negative.npy": lambda path: claiming(path, (-1, 6, 3)),
    "bomb.npy": bomb,
    "zero.npy": lambda path: np.save(path, np.array(3.0)),
    "complex.npy": lambda path: np.save(path, np.ones((6, 6, 3)) * 1j),
    "nan.npy": lambda path: np.save(path, np.full((6, 6, 3), np.nan)),
    "inf.npy": lambda path: np.save(path, np.full((6, 6, 3), np.inf)),
    "text.npy": lambda path: np.save(path, np.array(["a"])),
    "directory.npy": lambda path: path.mkdir(),
    "pipe.npy": lambda path: os.mkfifo(path),
    "cells.mat": lambda path: scipy.io.savemat(path, {"r": np.array([[{}], [3]], dtype=object)}),
    "large.mat": lambda path: scipy.io.savemat(
        path, {"r": np.zeros((7000, 7200), np.uint8)}, do_compression=True
    ),
    "short.mat": lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200)),
    "unfilled.h5": unfilled,
    "of_itself.h5": of_itself,
    "text.h5": lambda path: h5py.File(path, "w").create_dataset("v", data="text"),
    "stretched.pth": stretched,
    "sparse.pth": lambda path: torch.save(torch.ones(3, 6, 6).to_sparse(), path),
    "meta.pth": lambda path: torch.save(torch.ones(3, 6, 6, device="meta"), path),
    "code.pth": lambda path: path.write_bytes(pickle.dumps(os.system)),
    "complex.pth": lambda path: torch.save(torch.ones(3, 6, 6) * 1j, path),
    "short.safetensors": lambda path: path.write_bytes(b"\xff" * 40),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_one_sentence(tmp_path, name):
    HOSTILE[name](tmp_path / name)
    with pytest.raises(UapError, match=re.escape(name)) as told:
        read(tmp_path / name, HWC, LINF)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600
