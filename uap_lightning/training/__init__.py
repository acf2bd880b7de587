"""The rectifier in training: Lightning module, callbacks, outcomes and the panel."""
