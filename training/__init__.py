"""Pretraining and evaluation of a mask-guided CLIP, and the ``sono-train`` command. Imports only ``sono.manifests``."""
