"""Datasets on the Hugging Face Hub: what may be published, how it gets there, and how a patient leaves."""
