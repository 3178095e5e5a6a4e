"""What is it doing? Body part transformers: pretrained by telling what is hidden, then fine-tuned, then tested.

    python main_bpmt.py --config config/ucla/tlca.yaml --phase all
    python main_bpmt.py --config config/ucla/tlca.yaml --phase pretrain      # one phase at a time
    python main_bpmt.py --work-dir work_dir/ucla/tlca --phase test           # what is in a folder

Each stage is a run in its own folder below the work_dir; --resume auto goes on where the chain was interrupted. With
init_from=FOLDER fine-tuning begins with another run's encoder instead.
"""

from recipes.bpmt import bpmt
from torchlight.chain import launch_chain

CHAIN = bpmt("config/demo/tlca.yaml", __doc__)

if __name__ == "__main__":
    launch_chain(CHAIN)
