"""Which encoder a config asks for: the one union and the one match that a new encoder joins."""

from feeders.skeleton import Skeleton
from model.encoders.contract import Encoder
from model.encoders.ctrgcn import CtrGcn, CtrGcnConfig

EncoderConfig = CtrGcnConfig


def build_encoder(config: EncoderConfig, skeleton: Skeleton, bodies: int) -> Encoder:
    """The encoder of a config, for a skeleton and at most so many bodies per clip."""
    match config:
        case CtrGcnConfig():
            return CtrGcn(config, skeleton, skeleton.coordinates, bodies)
