"""The server of the review page: what it sends, what it accepts, and who may ask."""
