"""Bad teaching: the forget data learns from a random network, the retained data from the original."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource
from eigenforget.methods.base import Task
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.losses import kl_to_target, soft_target
from eigenforget.training.phases import LossInputs, Optimizer, Phase


@configured
class BadTeacher:
    """KL(q ‖ student) over shuffled forget and retained samples, q = l_u · incompetent + (1 − l_u)
    · competent teacher.

    l_u is 1 for a forget sample and 0 for a retained one. The competent teacher is the frozen
    original; the incompetent one the same architecture with random weights (its batch-norm
    statistics are the initial 0 and 1; parameters of a module without reset_parameters(), such as
    class tokens, are drawn from N(0, s²) with s their own standard deviation, see
    `initialisation.reinitialise`). Both are softened by the temperature, as is the student, without
    a factor T². Labels are not used. An epoch is one pass over the forget data and the retain
    sample together.
    """

    name: ClassVar[str] = "bad_teacher"
    source: ClassVar[str] = (
        "Chundawat et al.: Can Bad Teaching Induce Forgetting?, arXiv 2205.08096, the blindspot objective; deviation: "
        "the KL divergence is summed over classes (the published code averages over classes too, which divides the loss "
        "by their number); parameters that no reset_parameters() draws keep their own standard deviation in the random network"
    )
    needs: ClassVar[tuple[str, ...]] = (
        "forget",
        "retain",
        "reset_parameters() where modules have buffers",
    )
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = (
        "trained: epochs × (forget + retain_share × retain); forward: twice that"
    )
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar-super20-resnet18": {
            "epochs": 1,
            "lr": 1e-4,
            "temperature": 1.0,
            "retain_share": 0.3,
            "batch_size": 256,
        },
    }

    epochs: Annotated[
        int, Field(ge=1, description="passes over the forget data and the retain sample")
    ] = 5
    lr: Annotated[float, Field(gt=0, description="Adam learning rate")] = 5e-4
    temperature: Annotated[float, Field(gt=0, description="softening of teachers and student")] = (
        1.0
    )
    retain_share: Annotated[
        float, Field(gt=0, le=1, description="share of the retained data that is used, drawn once")
    ] = 0.3
    batch_size: Annotated[
        int, Field(ge=2, description="samples per step, forget and retain mixed")
    ] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        count = max(1, round(self.retain_share * len(retain)))
        order = torch.randperm(
            len(retain), generator=seeds.generator(task.seed, self.name, "retain")
        )
        mixed = JoinedSource((task.forget, retain.subset(order[:count].numpy())))
        incompetent = task.teacher().cpu()
        modules = dict(incompetent.named_modules())
        reinitialise(
            modules,
            seed=seeds.derive(task.seed, self.name),
            method=self.name,
            without_reset="own scale",
        )

        def loss(part: LossInputs) -> Tensor:
            competent, bad = (
                soft_target(teacher.logits, self.temperature) for teacher in part.teachers
            )
            unlearn = (part.batch.positions < len(task.forget)).to(bad.device).unsqueeze(1)
            return kl_to_target(
                torch.where(unlearn, bad, competent), part.outputs.logits / self.temperature
            )

        # Without weight decay AdamW is Adam, which the paper's code uses.
        optimizer = Optimizer(kind="adamw", lr=self.lr, weight_decay=0.0)
        phase = Phase(
            "teach",
            (mixed,),
            loss,
            optimizer,
            self.batch_size,
            teachers=(task.teacher(), incompetent),
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
