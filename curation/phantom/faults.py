"""What is wrong with a phantom archive on purpose, and what each fault means."""

FILE_FAULTS = {
    "truncated_file": "the file ends in the middle of its pixels",
    "empty_file": "the file has no bytes",
    "not_dicom": "a text file among the images",
    "black_frame": "the probe was off: the sector is black",
    "no_patient_id": "the header names no patient",
    "no_plane": "the header does not say which plane it is",
    "no_regions": "the header has no Sequence of Ultrasound Regions: the screen is kept whole",
    "regions_outside": "the header's region lies outside the image",
    "filed_under_two_patients": "the pixels are those of another patient's image",
}
EXAM_FAULTS = {
    "missing_record": "no record mentions the examination",
    "conflicting_gestational_age": "last menstrual period and due date contradict the record's age by ultrasound",
}
