"""Who is it? Train and test gait retrieval, enrol people with names, and identify walks, or call them unknown.

python main_gait.py --config config/gait/demo.yaml                          # all of it, on simulated walkers
python main_gait.py --config config/kinect_gait/ctrgcn.yaml --phase train test
python main_gait.py --config RUN/config.yaml --phase enrol [FILE ...]       # the protocol's gallery, or these walks
python main_gait.py --config RUN/config.yaml --phase identify [FILE ...]    # the protocol's probes, or these walks
"""

from recipes.gait import gait
from torchlight.chain import launch_chain

CHAIN = gait("config/gait/demo.yaml", __doc__)

if __name__ == "__main__":
    launch_chain(CHAIN)
