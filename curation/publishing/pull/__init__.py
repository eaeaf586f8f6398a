"""A published dataset brought back into a workspace."""
