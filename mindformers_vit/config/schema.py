"""The yaml of a run, typed. Sections and keys are MindFormers r1.0's; what is new says so.

A key marked `dead(...)` is accepted because MindFormers' own yamls carry it, does nothing here,
and is named once, in one warning, with the reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mindformers_vit.config.strict import StrictModel

RUN_MODES = ("train", "finetune", "eval", "predict", "export")
TASKS = ("masked_image_modeling", "image_classification")
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def dead(why: str) -> Any:
    """A key that is accepted, ignored and not written; `why` completes "it is ignored: ..."."""
    return Field(default=None, exclude=True, json_schema_extra={"dead": why})


_SHARDING = "data parallelism is the only kind here"
_PROFILER = "use the profiler of the device"


class Context(StrictModel):
    """Where and how the network runs."""

    mode: Literal[0, 1] = 0  # 0 graph, 1 PyNative
    device_target: Literal["auto", "CPU", "Ascend", "GPU"] = (
        "auto"  # auto: Ascend where there is one, else CPU
    )
    device_id: int = Field(0, ge=0)  # the launcher's choice rules where it starts several ranks
    compute_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"  # new: of matmuls
    cpu_matmul: Literal["fp32", "bf16"] = "fp32"  # new: products of linear layers, summed in fp32
    max_device_memory: str | None = None  # as "30GB"; not on CPU
    enable_graph_kernel: Any = dead("MindSpore's own default is used")
    graph_kernel_flags: Any = dead("MindSpore's own default is used")
    max_call_depth: Any = dead("MindSpore's own default is used")
    save_graphs: Any = dead("set MS_DEV_SAVE_GRAPHS instead")
    save_graphs_path: Any = dead("set MS_DEV_SAVE_GRAPHS instead")


class RunnerConfig(StrictModel):
    """How long and how much at a time. A step is one update of the weights."""

    epochs: Positive = 1  # passes over the training images
    batch_size: Positive = 32  # images of one forward pass on one device
    gradient_accumulation_steps: Positive = 1  # batches of one update
    max_steps: Positive | None = None  # new: stop early; schedules stay those of all epochs
    max_skipped_steps: Positive = 10  # new: stop after so many steps in a row that are not finite
    num_classes: Positive | None = None  # must equal the number of labels of the head
    image_size: int | list[int] | None = None  # must equal the network's
    sink_mode: Any = dead("each step is one compiled call, data sinking is not used")
    sink_size: Any = dead("each step is one compiled call, data sinking is not used")
    initial_epoch: Any = dead("a resumed run knows its epoch")
    has_trained_epoches: Any = dead("a resumed run knows its epoch")
    has_trained_steps: Any = dead("a resumed run knows its step")


class ScaleSense(StrictModel):
    """Loss scale; used where the device computes in float16, ignored in float32."""

    type: Literal["FixedLossScaleUpdateCell", "DynamicLossScaleUpdateCell"] = (
        "DynamicLossScaleUpdateCell"
    )
    loss_scale_value: float = Field(65536.0, ge=1)  # at the start
    scale_factor: int = Field(
        2, gt=1
    )  # divides after an overflow, multiplies after scale_window steps
    scale_window: Positive = 1000  # steps without an overflow before it is raised


class RunnerWrapper(StrictModel):
    """The train step around the network."""

    type: Literal["MFTrainOneStepCell", "mf_wrapper", "wrapper", "loss_scale_wrapper"] = (
        "MFTrainOneStepCell"
    )
    scale_sense: ScaleSense = ScaleSense()
    use_clip_grad: bool = False  # clip the gradients by their global norm
    max_grad_norm: float = Field(1.0, gt=0)  # global norm; used where use_clip_grad is True


class TrainerConfig(StrictModel):
    type: Literal["masked_image_modeling", "image_classification"]
    model_name: str | None = None  # name of exported files; else the family's
    auto_register: Any = dead("it is for MindFormers' own Trainer, see docs/mindformers.md")


class DataLoaderConfig(StrictModel):
    """Where the images are: class folders, or one folder and a label file, or a bare folder."""

    type: Literal["ImageFolderDataset"] = "ImageFolderDataset"
    dataset_dir: str = ""  # --train_dataset_dir, --eval_dataset_dir
    label_file: str | None = None  # new: `<file name> <class index>` a line, as ILSVRC2012's val
    num_parallel_workers: int | None = Field(None, ge=0)  # rules over the data set's; 0: none
    shuffle: bool = True  # of training; evaluation is in order
    num_samples: Positive | None = None  # use only so many images, the same ones in every run
    label_map_dir: str | None = None  # new: holds `<class>/<image>.npy` for token labels
    label_map_order: Literal["reference", "straight"] = (
        "reference"  # new: straight: rows and columns as they are
    )
    extensions: Any = dead("every image format that Pillow reads is taken")
    class_indexing: Any = dead("classes are the sorted folder names")
    decode: Any = dead("images are always decoded")


class MaskPolicy(StrictModel):
    """MindFormers' mask section; the network's own settings rule, these must agree with them."""

    type: Literal["MaeMask"] = "MaeMask"
    input_size: int | list[int] | None = None
    patch_size: int | None = None
    mask_ratio: float | None = None


class DatasetConfig(StrictModel):
    """One data set: source, transforms, batch."""

    data_loader: DataLoaderConfig = DataLoaderConfig()
    transforms: list[dict[str, Any]] = []  # see below; evaluation: the processor's, if empty
    mask_policy: MaskPolicy | None = None
    mixup_op: dict[str, Any] | None = None  # see below
    label_smoothing: Fraction = 0.0  # new: without mixup_op
    repeated_augmentation: Positive = 1  # new: copies of an image in a row; training only
    batch_size: Positive | None = None  # evaluation only; training takes runner_config's
    num_parallel_workers: int | None = Field(None, ge=0)  # default: one a core, at most 8; 0: none
    # new: images that cannot be read, before the run stops; below 1 a fraction of the data set
    max_bad_samples: float = Field(0.01, ge=0)
    eval_interval: Positive = 1  # evaluate every so many epochs of training
    eval_offset: int = Field(0, ge=0)  # the first epoch that is evaluated
    seed: Any = dead("the seed of the run is used")
    input_columns: Any = dead("the task knows its columns")
    output_columns: Any = dead("the task knows its columns")
    column_order: Any = dead("the task knows its columns")
    python_multiprocessing: Any = dead("num_parallel_workers processes are used")
    drop_remainder: Any = dead("training drops the last partial batch, evaluation never does")
    repeat: Any = dead("an epoch is one pass")
    numa_enable: Any = dead("set the affinity outside")
    prefetch_size: Any = dead("chosen by the loader")

    @property
    def workers(self) -> int | None:
        """The loader's own number rules over the data set's."""
        if self.data_loader.num_parallel_workers is not None:
            return self.data_loader.num_parallel_workers
        return self.num_parallel_workers


class DatasetTask(StrictModel):
    type: Literal["MIMDataset", "ImageCLSDataset"]
    dataset_config: Any = dead("it repeats train_dataset or eval_dataset")


class Arch(StrictModel):
    type: str


class ModelSection(StrictModel):
    """`model.arch.type` names the network, `model.model_config` holds its settings."""

    arch: Arch
    settings: dict[str, Any] = Field(default_factory=dict, alias="model_config")


class LRSchedule(StrictModel):
    """Schedule by the step, or timm's by the epoch; fractions of `warmup_epochs` are allowed."""

    type: Literal["cosine", "cosine_by_epoch", "linear", "constant_with_warmup"] = "cosine"
    learning_rate: float = Field(1e-3, gt=0)  # the peak; see lr_scale
    lr_end: float = Field(0.0, ge=0)  # after the last step
    warmup_lr_init: float = Field(0.0, ge=0)  # at the first step
    warmup_epochs: float | None = Field(None, ge=0)  # this or warmup_steps
    warmup_steps: int | None = Field(None, ge=0)  # this or warmup_epochs
    total_steps: int = -1  # -1: epochs x steps of an epoch
    cooldown_epochs: int = Field(0, ge=0)  # cosine_by_epoch: so many of the last at lr_end

    @model_validator(mode="after")
    def _one_unit(self) -> LRSchedule:
        by_epoch = self.type == "cosine_by_epoch"
        if by_epoch and (self.warmup_steps is not None or self.total_steps > 0):
            raise ValueError("cosine_by_epoch takes warmup_epochs, not warmup_steps or total_steps")
        if self.cooldown_epochs and not by_epoch:
            raise ValueError("cooldown_epochs is an option of type cosine_by_epoch only")
        if self.warmup_epochs is not None and self.warmup_steps is not None:
            raise ValueError("give warmup_epochs or warmup_steps, not both")
        return self


class OptimizerConfig(StrictModel):
    """AdamW with bias correction and decoupled weight decay (arXiv:1711.05101), or LARS."""

    type: Literal["adamw", "AdamW", "fp32_adamw", "fused_adamw", "lars"] = "adamw"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.05, ge=0)  # not of biases, norms, tokens and position embeddings
    momentum: float | None = Field(None, ge=0, lt=1)  # new: of lars, 0.9 if not given
    trust_coefficient: float | None = Field(None, gt=0)  # new: of lars, 0.001 if not given

    @model_validator(mode="after")
    def _its_own_options(self) -> OptimizerConfig:
        of_lars = (self.momentum, self.trust_coefficient)
        if self.type == "lars" and (self.beta1, self.beta2, self.eps) != (0.9, 0.999, 1e-8):
            raise ValueError("beta1, beta2 and eps are options of AdamW; lars has momentum")
        if self.type != "lars" and of_lars != (None, None):
            raise ValueError("momentum and trust_coefficient are options of type lars only")
        return self


class Ema(StrictModel):
    """Exponential moving average of the weights; evaluated and kept beside them."""

    decay: float = Field(gt=0, lt=1)  # share of the old average kept at an update


class RecomputeConfig(StrictModel):
    """Memory for time: transformer blocks are computed again for the gradient."""

    recompute: bool = False  # of every block
    select_recompute: Any = dead("whole blocks are recomputed")
    parallel_optimizer_comm_recompute: Any = dead(_SHARDING)
    mp_comm_recompute: Any = dead(_SHARDING)
    recompute_slice_activation: Any = dead(_SHARDING)


class Metric(StrictModel):
    """What evaluation measures. KNN is new: of a pretrained encoder, see engine/knn.py."""

    type: Literal["Accuracy", "KNN"] = "Accuracy"
    eval_type: Literal["classification"] = "classification"
    num_neighbors: Positive = 20  # of KNN: that vote
    temperature: float = Field(0.07, gt=0)  # of KNN: of the votes
    feature: Literal["mean", "cls_token"] = (
        "mean"  # of KNN: mean of the patches, or the class token
    )
    train_samples: Positive | None = None  # of KNN: use only so many of the training images


class ProcessorConfig(StrictModel):
    """Preprocessing of evaluation and prediction; travels with the weights."""

    type: str
    image_processor: dict[str, Any] = Field(default_factory=dict)


class PredictConfig(StrictModel):
    """New: what prediction does."""

    data: list[str] = []  # files, directories or URLs; --predict_data
    batch_size: Positive = 1
    top_k: Positive = 1  # classes to name
    candidate_labels: list[str] | Literal["imagenet"] | None = (
        None  # names of the classes; null: the weights' own
    )
    mask_ratio: float | None = Field(None, gt=0, lt=1)  # another than the network's


class ExportConfig(StrictModel):
    """New: the file that run_mode export writes into `output_dir/export`."""

    export_format: Literal["onnx", "mindir", "air"] = "onnx"  # air on an Ascend only
    batch_size: Positive | Literal["dynamic"] = 1  # images of a run of the file
    opset: int = Field(11, ge=11, le=20)  # of onnx; what ATC reads by default is 11
    precision: Literal["float32", "float16"] = "float32"  # of the weights and products in onnx
    pixels: Literal["normalised", "uint8"] = "normalised"  # uint8: normalised in the graph
    pad_tokens_to: Positive | None = None  # tokens in the blocks: 208 for 197 on a 310P

    @property
    def open_batch(self) -> bool:
        return self.batch_size == "dynamic"


class RunConfig(StrictModel):
    """A whole run."""

    seed: int = Field(0, ge=0, lt=2**63)  # of everything random; 0 is a seed
    run_mode: Literal["train", "finetune", "eval", "predict", "export"] = "train"
    output_dir: str = "./output"  # where everything is written
    load_checkpoint: str = ""  # weight file, directory or model name
    resume_training: Literal["auto"] | bool = "auto"  # True: there must be something to resume
    force_resume: bool = False  # new: go on although settings have changed
    do_eval: bool = False  # evaluate during training
    use_parallel: bool = False  # several ranks; the launcher sets it
    context: Context = Context()
    runner_config: RunnerConfig = RunnerConfig()
    runner_wrapper: RunnerWrapper = RunnerWrapper()
    trainer: TrainerConfig
    train_dataset: DatasetConfig | None = None
    train_dataset_task: DatasetTask | None = None
    eval_dataset: DatasetConfig | None = None
    eval_dataset_task: DatasetTask | None = None
    predict: PredictConfig = PredictConfig()
    export: ExportConfig = ExportConfig()
    model: ModelSection
    lr_schedule: LRSchedule = LRSchedule()
    layer_scale: bool = False  # MindFormers' name for layer-wise lr decay
    layer_decay: float = Field(
        1.0, gt=0, le=1
    )  # learning rate of a layer / of the next one, with layer_scale
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scale: bool = False  # lr x effective batch / lr_scale_factor
    lr_scale_factor: Positive = 256
    ema: Ema | None = None
    callbacks: list[dict[str, Any]] = []  # see below
    recompute_config: RecomputeConfig = RecomputeConfig()
    metric: Metric = Metric()
    processor: ProcessorConfig | None = None

    @property
    def is_training(self) -> bool:
        """Whether this run changes weights: run_mode train or finetune."""
        return self.run_mode in ("train", "finetune")

    eval_callbacks: Any = dead("evaluation has no callbacks of its own")
    parallel: Any = dead(_SHARDING)
    parallel_config: Any = dead(_SHARDING)
    micro_batch_interleave_num: Any = dead(_SHARDING)
    moe_config: Any = dead("there are no mixtures of experts here")
    src_strategy_path_or_dir: Any = dead(_SHARDING)
    strategy_load_checkpoint: Any = dead(_SHARDING)
    auto_trans_ckpt: Any = dead("checkpoints are whole, nothing has to be transformed")
    only_save_strategy: Any = dead("checkpoints are whole, nothing has to be transformed")
    remote_save_url: Any = dead("uploading is not offered")
    auto_tune: Any = dead("removed from MindSpore")
    filepath_prefix: Any = dead("removed from MindSpore")
    autotune_per_step: Any = dead("removed from MindSpore")
    profile: Any = dead(_PROFILER)
    profile_start_step: Any = dead(_PROFILER)
    profile_stop_step: Any = dead(_PROFILER)
    init_start_profile: Any = dead(_PROFILER)
    profile_communication: Any = dead(_PROFILER)
    profile_memory: Any = dead(_PROFILER)


def dead_keys(config: StrictModel, path: str = "") -> dict[str, str]:
    """Dotted path -> reason, of every dead key that the user's yaml sets."""
    found: dict[str, str] = {}
    for name, info in type(config).model_fields.items():
        if name not in config.model_fields_set:
            continue
        where = f"{path}.{name}" if path else name
        value = getattr(config, name)
        extra = info.json_schema_extra
        if isinstance(extra, dict) and "dead" in extra:
            found[where] = str(extra["dead"])
        elif isinstance(value, StrictModel):
            found |= dead_keys(value, where)
    return found
