"""The page on which people review masks: static files that the server serves, plain JavaScript without a build step."""
