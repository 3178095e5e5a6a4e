"""Which encoder a config asks for: the one union and the one match that a new encoder joins."""

from typing import Annotated

from pydantic import Field
from typing_extensions import assert_never

from feeders.skeleton import Skeleton
from model.encoders.bpmt import Bpmt, BpmtConfig
from model.encoders.cascade import Tlca, TlcaConfig
from model.encoders.contract import Encoder
from model.encoders.ctrgcn import CtrGcn, CtrGcnConfig
from model.encoders.iip import Iip, IipConfig

EncoderConfig = Annotated[CtrGcnConfig | TlcaConfig | BpmtConfig | IipConfig, Field(discriminator="name")]


def build_encoder(config: EncoderConfig, skeleton: Skeleton, bodies: int) -> Encoder:
    """The encoder of a config, for a skeleton and at most so many bodies per clip."""
    match config:
        case CtrGcnConfig():
            return CtrGcn(config, skeleton, bodies)
        case TlcaConfig():
            return Tlca(config, skeleton)
        case BpmtConfig():
            return Bpmt(config, skeleton)
        case IipConfig():
            return Iip(config, skeleton)
        case _:
            assert_never(config)
