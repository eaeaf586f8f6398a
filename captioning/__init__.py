"""Clinical records in, normalised facts, and captions out. Imports only ``sono.manifests``."""
