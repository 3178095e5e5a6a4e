"""The same door as main_clip_ntu.py, opening with NW-UCLA's config."""

from recipes.clip_action import clip_action
from torchlight.launch import launch

RECIPE = clip_action("config/ucla/lst_joint.yaml", __doc__)

if __name__ == "__main__":
    launch(RECIPE)
