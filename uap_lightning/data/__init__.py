"""Photographs, the decode-once cache, crops and the LightningDataModule."""

from uap_lightning.data.module import PhotographDataModule

__all__ = ["PhotographDataModule"]
