"""People review masks and frames: a page, the journal of what they decide, and the order in which they are asked."""
