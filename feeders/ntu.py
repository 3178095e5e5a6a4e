"""NTU RGB+D 60 and 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020): names and official splits."""

import re
from types import MappingProxyType

from feeders.dataset import DataSet, Protocol
from feeders.skeleton import NTU25

# The data set page's wording; a class index is the A number of the file name minus 1.
SAMPLE_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
"""Setup, camera, subject, replication and action, all from 1."""

CLASS_NAMES = (
    "drink water",
    "eat meal/snack",
    "brushing teeth",
    "brushing hair",
    "drop",
    "pickup",
    "throw",
    "sitting down",
    "standing up (from sitting)",
    "clapping",
    "reading",
    "writing",
    "tear up paper",
    "wear jacket",
    "take off jacket",
    "wear a shoe",
    "take off a shoe",
    "wear on glasses",
    "take off glasses",
    "put on a hat/cap",
    "take off a hat/cap",
    "cheer up",
    "hand waving",
    "kicking something",
    "reach into pocket",
    "hopping (one foot)",
    "jump up",
    "make a phone call/answer phone",
    "playing with phone/tablet",
    "typing on a keyboard",
    "pointing to something with finger",
    "taking a selfie",
    "check time (from watch)",
    "rub two hands together",
    "nod head/bow",
    "shake head",
    "wipe face",
    "salute",
    "put the palms together",
    "cross hands in front (say stop)",
    "sneeze/cough",
    "staggering",
    "falling",
    "touch head (headache)",
    "touch chest (stomachache/heart pain)",
    "touch back (backache)",
    "touch neck (neckache)",
    "nausea or vomiting condition",
    "use a fan/feeling warm",
    "punching/slapping other person",
    "kicking other person",
    "pushing other person",
    "pat on back of other person",
    "point finger at the other person",
    "hugging other person",
    "giving something to other person",
    "touch other person's pocket",
    "handshaking",
    "walking towards each other",
    "walking apart from each other",
    "put on headphone",
    "take off headphone",
    "shoot at the basket",
    "bounce ball",
    "tennis bat swing",
    "juggling table tennis balls",
    "hush (quiet)",
    "flick hair",
    "thumb up",
    "thumb down",
    "make ok sign",
    "make victory sign",
    "staple book",
    "counting money",
    "cutting nails",
    "cutting paper (scissors)",
    "snapping fingers",
    "open bottle",
    "sniff (smell)",
    "squat down",
    "toss a coin",
    "fold paper",
    "ball up paper",
    "play magic cube",
    "apply cream on face",
    "apply cream on hand back",
    "put on bag",
    "take off bag",
    "put something into a bag",
    "take something out of a bag",
    "open a box",
    "move heavy objects",
    "shake fist",
    "throw up cap/hat",
    "hands up (both hands)",
    "cross arms",
    "arm circles",
    "arm swings",
    "running on the spot",
    "butt kicks (kick backward)",
    "cross toe touch",
    "side kick",
    "yawn",
    "stretch oneself",
    "blow nose",
    "hit other person with something",
    "wield knife towards other person",
    "knock over other person (hit with body)",
    "grab other person's stuff",
    "shoot at other person with a gun",
    "step on foot",
    "high-five",
    "cheers and drink",
    "carry something with other person",
    "take a photo of other person",
    "follow other person",
    "whisper in other person's ear",
    "exchange things with other person",
    "support somebody with hand",
    "finger-guessing game (rock-paper-scissors)",
)
_LEARN_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
_LEARN_120 = _LEARN_60 | {
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78),
    *(80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103),
}


# Every tenth of the sorted training subjects, so that nobody picked them.
_VALIDATE_60 = tuple(sorted(_LEARN_60)[9::10])
_VALIDATE_120 = tuple(sorted(_LEARN_120)[9::10])


def _sides(field: str, learn: frozenset[int], last: int) -> Protocol:
    test = frozenset(range(1, last + 1)) - learn
    return Protocol(MappingProxyType({field: learn}), MappingProxyType({field: test}))


def _unseen(*actions: int) -> frozenset[int]:
    return frozenset(action - 1 for action in actions)


# The random splits of SynSE (Gupta et al., ICIP 2021), by A number as its README lists them; learned and tested across
# subjects. Its published files of an older 48/12 split differ.
_ZERO_SHOT_60 = MappingProxyType(
    {
        "ntu60_55_5": _unseen(11, 12, 20, 27, 57),
        "ntu60_48_12": _unseen(4, 6, 10, 13, 16, 41, 43, 48, 52, 57, 59, 60),
    }
)
_ZERO_SHOT_120 = MappingProxyType(
    {
        "ntu120_110_10": _unseen(5, 14, 38, 44, 50, 66, 89, 96, 100, 107),
        "ntu120_96_24": _unseen(
            *(6, 10, 12, 17, 19, 21, 23, 30, 36, 40, 46, 50),
            *(60, 69, 71, 82, 85, 88, 94, 95, 105, 114, 115, 120),
        ),
    }
)

NTU60 = DataSet(
    name="ntu60",
    skeleton=NTU25,
    class_names=CLASS_NAMES[:60],
    protocols=MappingProxyType(
        {
            "cross_subject": _sides("subject", _LEARN_60, 40),
            "cross_view": _sides("camera", frozenset({2, 3}), 3),
        }
    ),
    root="nturgbd_raw",
    bodies=2,
    validation_subjects=_VALIDATE_60,
    zero_shot=_ZERO_SHOT_60,
)
NTU120 = DataSet(
    name="ntu120",
    skeleton=NTU25,
    class_names=CLASS_NAMES,
    protocols=MappingProxyType(
        {
            "cross_subject": _sides("subject", _LEARN_120, 106),
            "cross_setup": _sides("setup", frozenset(range(2, 33, 2)), 32),
        }
    ),
    root="nturgbd_raw",
    bodies=2,
    validation_subjects=_VALIDATE_120,
    zero_shot=_ZERO_SHOT_120,
)
