"""From a scanner's archive to a dataset: ingest, quality control, masks, build, and the ``sono-curate`` command."""
