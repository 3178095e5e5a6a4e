"""Northwestern-UCLA Multiview Action 3D (Wang et al., CVPR 2014): names and splits. All subjects are on both sides."""

from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import KINECT20

# The action numbers of the file names; a class index is a place in this tuple.
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
CLASS_NAMES = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
_LEARN = MappingProxyType({"camera": frozenset({1, 2})})
_TEST = MappingProxyType({"camera": frozenset({3})})

UCLA = DataSet(
    name="ucla",
    skeleton=KINECT20,
    class_names=CLASS_NAMES,
    # 95 of the 464 published test clips are bit-identical to a training clip, which "without_copies" leaves out.
    protocols=MappingProxyType(
        {"published": Protocol(_LEARN, _TEST), "without_copies": Protocol(_LEARN, _TEST, without_copies=True)}
    ),
    root="NW-UCLA/all_sqe",
    bodies=1,
)
