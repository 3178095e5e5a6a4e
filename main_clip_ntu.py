"""What is it doing? Train and test skeleton-text action recognition; the data set comes from the config."""

from recipes.clip_action import clip_action
from torchlight.launch import launch

RECIPE = clip_action("config/demo/joint.yaml", __doc__)

if __name__ == "__main__":
    launch(RECIPE)
