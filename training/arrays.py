"""Names for the array types that training's files share, and the legend for the shapes in the names of arrays.

A name such as ``tokens_UL`` ends with the array's shape, one letter or number per axis. Numbers are lengths, as in
``x_B4HW`` (three colours and a mask). The letters are:

    A   gestational ages that sentences name
    B   a batch, or one of its micro-batches; the places of the best ages in ``places_NB``
    C   colour channels before HW, and channels in ``features_BCHW``; images of a chunk of the loss; classes in metrics
    D   dimensions of a feature vector, or channels of a tower
    E   bounds between frames: one more than there are frames
    F   frames of a split
    G   texts gathered from all ranks, in which some occur several times
    H   rows of pixels, or of patches
    K   captions of the bank, classes of a probe, or structures
    L   tokens of a text
    M   members of lists: the regions of many frames, one after another
    N   this rank's images, or the frames that are evaluated
    P   patients
    Q   queries
    R   regions
    S   sides of a square grid: SS are its rows and columns
    T   texts that queries choose from
    U   distinct texts of the global batch
    V   distinct texts of this rank's share; views of frames (through one mask each)
    W   columns of pixels, or of patches; texts of a micro-batch before L or D; wordings before A
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
