"""The ground floor: schemas, atomic parts, stages, vocabulary, masks, pseudonyms, splits and errors.

Imports nothing else of this project, and neither torch nor cv2.
"""
