"""Bad teaching: the forget set learns from a random network, the retain set from the original."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.fields import Count, Positive, TwoOrMore, UpTo1
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Method, Range, Task, adam
from eigenforget.methods.published import RESNET18, PublishedData, PublishedRun
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.losses import kl_to_target, soft_target
from eigenforget.training.phases import LossInputs, Phase


@configured
class BadTeacher(Method):
    """Distil a random network on forget samples, and the original on retain samples.

    The loss is KL(q ‖ student), in batches that mix forget and retain samples. q is the softmax of
    the incompetent teacher for a forget sample, and of the competent teacher for a retain sample.
    The competent teacher is the frozen original. The incompetent teacher is the same architecture
    with random weights. Its batch-norm statistics are the initial 0 and 1. Parameters of a module
    without reset_parameters(), such as class tokens, are drawn from N(0, s²), with s their own
    standard deviation (see `initialisation.reinitialise`). The temperature softens teachers and
    student, without a factor T². Labels are not used.
    """

    name: ClassVar = "bad_teacher"
    source: ClassVar = (
        "Chundawat et al.: Can Bad Teaching Induce Forgetting?, arXiv 2205.08096, the blindspot "
        "objective; deviation: the KL divergence is summed over classes (the published code "
        "averages over classes too, which divides the loss by their number); parameters that no "
        "reset_parameters() draws keep their own standard deviation in the random network"
    )
    needs: ClassVar = ("forget", "retain", "reset_parameters() where modules have buffers")
    passes: ClassVar = (
        "trained: epochs × (forget + retain_share × retain); forward: as many, or twice as many "
        "where the samples lie on a GPU"
    )
    search_space: ClassVar = {"lr": Range(1e-4, 0.01)}
    recipes: ClassVar = {
        "cifar20-resnet18-badteaching": PublishedRun(
            dict(
                epochs=1,
                lr=1e-4,
                temperature=1.0,
                retain_share=0.3,
                batch_size=256,
            ),
            RESNET18,
            PublishedData("CIFAR-20", 20, (3, 224, 224)),
            "one subclass",
            "vikram2000b/bad-teaching-unlearning, CIFARSuper20_Rocket_Unlearn.ipynb, f1aa988",
        ),
    }

    epochs: Annotated[Count, "passes over the forget set and the retain sample"] = 5
    lr: Annotated[Positive, "Adam learning rate"] = 5e-4
    temperature: Annotated[Positive, "softening of teachers and student"] = 1.0
    retain_share: Annotated[UpTo1, "share of the retain set that is used, drawn once"] = 0.3
    batch_size: Annotated[TwoOrMore, "samples per step, forget and retain mixed"] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        count = max(1, round(self.retain_share * len(retain)))
        mixed = JoinedSource((task.forget, task.sample(retain, count, self.name, "retain")))
        incompetent = task.teacher().cpu()
        reinitialise(
            dict(incompetent.named_modules()),
            seed=seeds.derive(task.seed, self.name),
            method=self.name,
            without_reset="own scale",
        )

        def loss(part: LossInputs) -> Tensor:
            taught, *others = (teacher.logits for teacher in part.teachers)
            for competent in others:  # both teachers have seen all
                of_forget = part.batch.positions < len(task.forget)
                taught = torch.where(of_forget.to(taught.device).unsqueeze(1), taught, competent)
            target = soft_target(taught, self.temperature)
            return kl_to_target(target, part.outputs.logits / self.temperature)

        phase = Phase(
            "teach",
            (mixed,),
            loss,
            adam(self.lr),
            self.batch_size,
            teachers=(incompetent, task.teacher()),
            taught_first=len(task.forget),
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
