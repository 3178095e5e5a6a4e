"""Penn Action (Zhang et al., ICCV 2013): names, the official split, and folds that keep a source video in one piece.

The files do not say who is seen, nor which video on the web a clip was cut from; but consecutive clips of a class are
often of one video. Neighbours of the same rare image size are on the same side of the official split 19 times in 20,
neighbours of different size half the time, as chance has it. So each class is cut into ten folds of consecutive clips,
only where image size or side change, each with about a tenth of the class's training clips. A store has the fold as
``subject``, which it is not: it is the smallest thing that validation can hold out without knowing a clip's neighbours.
"""

from bisect import bisect_right
from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import PENN13

# The files' names of the actions, with spaces.
CLASS_NAMES = (
    "baseball pitch",
    "baseball swing",
    "bench press",
    "bowl",
    "clean and jerk",
    "golf swing",
    "jump rope",
    "jumping jacks",
    "pullup",
    "pushup",
    "situp",
    "squat",
    "strum guitar",
    "tennis forehand",
    "tennis serve",
)
VIEWS = ("front", "back", "left", "right")
# The store's ``setup``: the side of the official split.
TRAINING, TEST = 1, 2
# By class, the number of the first clip of each fold.
_FOLDS = (
    (1, 13, 33, 50, 65, 73, 93, 103, 127, 146),
    (168, 189, 211, 226, 240, 255, 275, 289, 310, 321),
    (341, 356, 364, 385, 400, 408, 422, 441, 456, 469),
    (481, 497, 518, 535, 577, 592, 615, 637, 662, 689),
    (701, 708, 713, 721, 732, 740, 749, 758, 766, 776),
    (789, 790, 811, 819, 833, 849, 858, 872, 887, 926),
    (955, 962, 974, 981, 992, 1000, 1004, 1012, 1020, 1028),
    (1037, 1050, 1059, 1070, 1084, 1090, 1097, 1110, 1120, 1135),
    (1149, 1157, 1174, 1192, 1207, 1235, 1257, 1280, 1300, 1328),
    (1348, 1377, 1398, 1423, 1441, 1461, 1478, 1495, 1522, 1540),
    (1559, 1569, 1587, 1594, 1601, 1607, 1623, 1629, 1642, 1651),
    (1659, 1684, 1712, 1736, 1750, 1754, 1777, 1798, 1819, 1838),
    (1890, 1898, 1902, 1908, 1916, 1927, 1937, 1954, 1964, 1966),
    (1984, 2004, 2013, 2026, 2042, 2058, 2074, 2089, 2102, 2124),
    (2141, 2166, 2177, 2200, 2217, 2238, 2260, 2278, 2293, 2307),
)


def fold(label: int, number: int) -> int:
    """The fold, from 1 to 10, of a class's clip by its file number."""
    return max(1, bisect_right(_FOLDS[label], number))


PENN = DataSet(
    name="penn",
    skeleton=PENN13,
    class_names=CLASS_NAMES,
    protocols=MappingProxyType(
        {"official": Protocol({"setup": frozenset({TRAINING})}, {"setup": frozenset({TEST})})},
    ),
    root="penn_action/labels",
    bodies=1,
    # The fold in which every class has nearest to a tenth of its training clips.
    validation_subjects=(4,),
    units="pixels",
)
