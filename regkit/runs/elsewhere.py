"""Elsewhere: options that other programs have, each with what does the same here."""

import re
from collections.abc import Iterable

from regkit.base.errors import nearest

FILES = {  # what else stands in a file of settings for another command
    "rows baseline controls robust make of": "regkit ablate",
    "search trials sampler fresh_seeds": "regkit tune",
    "seeds storage": "regkit ablate and regkit tune",
}
COMMANDS = {name: command for names, command in FILES.items() for name in names.split()}
OTHER_NAMES = {"learning_rate": "--lr"}  # short options of settings
OTHERS = {
    "gradient-accumulation gradient-accumulation-steps grad-accum accumulation-steps accumulate-grad-batches": (
        "--micro-batch-tokens does that: a batch is computed in parts of so many tokens, with the same result"
    ),
    "scheduler task-scheduler sampler sampling": "--plugin chooses the tasks of each update, such as --plugin rrobin",
    "lr-scheduler lr-scheduler-type": "--warmup is the rise; after it, -p cosine, constant or one_cycle, or else a fall to 0",
    "num-train-epochs num-epochs max-epochs n-epochs": "--epochs is its name here",
    "max-steps num-steps num-train-steps max-train-steps total-steps": "--steps is its name here",
    "per-device-train-batch-size per-gpu-train-batch-size train-batch-size bs": (
        "--batch-size is its name here: examples in an update, those of all devices together"
    ),
    "per-device-eval-batch-size eval-batch-size": "--micro-batch-tokens sets how much is evaluated at once",
    "max-seq-length max-seq-len max-sequence-length max-len model-max-length": "--max-length is its name here",
    "fp16 amp mixed-precision half": "--precision bf16 does that; fp16 is not offered",
    "bf16": "--precision bf16 does that",
    "fp32": "--precision fp32 does that",
    "warmup-ratio warmup-proportion": "--warmup is its name here: a share of the updates",
    "warmup-steps num-warmup-steps": "--warmup does that, as a share of the updates: --warmup 0.1",
    "wd": "--weight-decay is its name here",
    "bucketing no-bucketing group-by-length": "--length-bucketing does that, and is on; --no-length-bucketing turns it off",
    "early-stopping early-stopping-patience": "--patience does that: evaluations in a row without a better score",
    "max-grad-norm gradient-clip-val grad-clip clip-norm gradient-clipping": "--clip is its name here",
    "output-dir out-dir out save-dir": "--output is its name here",
    "model model-name model-name-or-path pretrained-model checkpoint bert": "--encoder is its name here",
    "dataset dataset-name data-dir train-file train-data": "--data is its name here: a folder, or a file of tasks",
    "task task-name": "--tasks is its name here",
    "validation-file eval-file dev-file val-data": "--dev is its name here: a file, or a share of the training rows",
    "test-file test-data": "--test is its name here",
    "text-column text-column-name text-column-names text-col": "--text is its name here, given twice for a pair",
    "label-column label-column-name label-col target-column": "--label is its name here",
    "max-train-samples train-subset num-samples": "--subsample does that: --subsample TASK=300, drawn by the seed",
    "optim optimizer adam-beta1 adam-beta2 adam-epsilon": (
        "The optimizer is AdamW as torch has it; a plugin makes another one in the hook make_optimizer"
    ),
    "class-weight class-weights": "--plugin class_weights does that",
    "pad-to-max-length padding": "No option is needed: the texts of a batch stand end to end",
    "val-size validation-split validation-split-percentage": "--dev does that: a share of the training rows, --dev 0.1",
    "load-best-model-at-end": "No option is needed: the best checkpoint is kept, and is what eval, predict and export take",
    "label-smoothing-factor label-smoothing": "--plugin label_smoothing does that",
    "neftune-noise-alpha": "--plugin neftune:alpha=5 does that",
    "report-to": "--plugin does that: tensorboard, wandb, mlflow or trackio; log.jsonl in --output has every loss anyway",
    "logging-steps log-interval log-every": "No option is needed: log.jsonl in --output has every loss",
    "eval-strategy evaluation-strategy eval-every eval-interval val-check-interval": (
        "--eval-steps does that, in updates; without it, the dev split is scored after each epoch"
    ),
    "eval-on-start": "--score-first does that, with all dev examples; without it, a sample is scored",
    "save-strategy save-every save-interval": "--save-steps and --save-minutes do that",
    "save-total-limit keep-checkpoints": "--keep is its name here: newest checkpoints, beside the best",
    "metric-for-best-model": "--monitor is its name here: the mean score, or TASK.METRIC",
    "resume-from-checkpoint resume-from continue": "--resume is its name here: --resume RUN",
    "no-cuda cpu use-cpu": "--device cpu does that",
    "cuda gpu use-gpu gpus": "--device cuda does that",
    "hidden-dropout-prob dropout-rate": "--dropout is its name here",
    "random-seed": "--seed is its name here",
    "freeze-encoder freeze last-linear-layer": "--plugin freeze does that: only the heads are trained",
    "overwrite overwrite-output-dir force": (
        "A run is never written over: --output names another folder, and --resume goes on with the one that is there"
    ),
    "do-train do-eval do-predict": "No option is needed: regkit train, regkit eval and regkit predict are commands",
    "gradient-checkpointing": "--memory does that: a step takes no more than it names, in smaller parts",
    "num-workers dataloader-num-workers": "No option is needed: tokens are kept in files and read while the device works",
    "torch-compile compile": "No option is needed: on a GPU the layers are repeated as CUDA graphs",
    "local-rank num-gpus n-gpu ddp deepspeed fsdp": "No option is needed: processes that torchrun starts share each batch",
    "push-to-hub hub-model-id": "regkit export does that, when the run is finished: it writes a folder for the Hub",
    "run-name": "--output is its name here: the folder of the run",
    "greater-is-better": "No option is needed: each metric knows which way is better",
    "config config-file": "The settings file is an argument, without --config: regkit train FILE.toml",
}
HINTS = {name: hint for names, hint in OTHERS.items() for name in names.split()}


def setting_called(name: str) -> str:
    """Find the setting that means what this name does elsewhere; a name without one stays as it is."""
    option = f"--{name.replace('_', '-').lower()}"
    if named := re.match(r"--[\w-]+", HINTS.get(option[2:], "")):
        option = named[0]
    short = {other: setting for setting, other in OTHER_NAMES.items()}
    return short.get(option, option[2:].replace("-", "_"))


def no_setting(name: str, known: Iterable[str]) -> str:
    """Say which command has a name in its files, or else the nearest setting."""
    if name in COMMANDS:
        return f"That is for {COMMANDS[name]}; leave it out here."
    return nearest(setting_called(name), known)


def no_option(name: str, known: Iterable[str]) -> str:
    """Say that there is no such option, and what does the same here, or else the nearest option."""
    known = list(known)
    said = f"there is no option {name}."
    hint = HINTS.get(name.lstrip("-").replace("_", "-").lower())
    named = hint and re.match(r"--[\w-]+", hint)
    if hint and (not named or named[0] in known):
        return f"{said} {hint}."
    return f"{said} {nearest(name, known)}"
