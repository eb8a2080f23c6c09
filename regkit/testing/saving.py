"""Saving: the promise that a run goes on from a checkpoint's files as if it had never stopped."""

from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from regkit.hooks.spec import hookimpl
from regkit.runs import checkpoint
from regkit.tasks.task import FINETUNE, Task
from regkit.testing.causes import unlike
from regkit.testing.promises import resume_is_exact
from regkit.testing.tiny import STEPS, tiny_tasks, tiny_tokenizer, tiny_trainer
from regkit.testing.verdicts import Factory, Tasks, lean
from regkit.training.loop import Trainer


def a_checkpoint_is_exact(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that a plugin's state is read back from a checkpoint's files as it was written."""
    with TemporaryDirectory() as place:
        saver = Saver(Path(place) / "checkpoint", at=STEPS // 2)
        saver.trainer = whole = tiny_trainer(factory(), tasks=lean(factory, tasks), observers=[saver])
        whole.train()
        second = tiny_trainer(factory(), tasks=lean(factory, tasks), begun=saver.folder)
        second.state.load(checkpoint.load_training(saver.folder))
    second.train()
    if name := unlike(second, whole):
        resume_is_exact(factory, tasks)  # whose sentence is the better one, if no file is needed to see the difference
        raise AssertionError(
            f"a run that goes on from the files of a checkpoint has other weights ({name}): load_state_dict has to take what "
            "a file gives back, where a tuple is a list, and a tensor is on the CPU"
        )


class Saver:
    """An observer that writes a checkpoint before one of the updates of fine-tuning."""

    trainer: Trainer

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at = folder, at

    @hookimpl(wrapper=True)
    def choose_tasks(self, step: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Write the checkpoint where nothing of the update is done."""
        if step == self.at and self.trainer.state.entered[-1] == FINETUNE:
            model, training = checkpoint.moment(self.trainer.state)
            checkpoint.save(self.folder, model, tiny_tokenizer(), training)
        return (yield)
