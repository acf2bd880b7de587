"""Photographs, the decode-once cache, their crops, and the LightningDataModules."""

from uap_lightning.data.collection import Collection, load_collection
from uap_lightning.data.module import EvaluationDataModule, TrainingDataModule

__all__ = ["Collection", "EvaluationDataModule", "TrainingDataModule", "load_collection"]
