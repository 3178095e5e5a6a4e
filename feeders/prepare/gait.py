"""The readers of gait data sets, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from feeders.prepare import casia_b, demo_gait, gait3d, grew, kinect_gait, oumvlp_pose, walkers
from feeders.prepare.source import RawSource

GAIT_SOURCES: Mapping[str, RawSource] = MappingProxyType(
    {
        "kinect_gait": kinect_gait.SOURCE,
        "gait3d": gait3d.SOURCE,
        "casia_b": casia_b.SOURCE,
        "oumvlp_pose": oumvlp_pose.SOURCE,
        "grew": grew.SOURCE,
        "demo_gait": demo_gait.SOURCE,
        "walkers": walkers.SOURCE,
    }
)
