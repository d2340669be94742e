"""What can be hung on a training run; importing this registers them all."""

from mindformers_vit.engine.callbacks import checkpoint_monitor as checkpoint_monitor
from mindformers_vit.engine.callbacks import evaluate as evaluate
from mindformers_vit.engine.callbacks import loss_monitor as loss_monitor
from mindformers_vit.engine.callbacks import metrics_writer as metrics_writer
