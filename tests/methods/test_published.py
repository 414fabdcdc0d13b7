"""Named recipes: each field is held to the line of the source that it comes from.

A pin is a fragment of a quoted line, and a number must stand in its fragment.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from eigenforget.core.notices import EigenforgetWarning
from eigenforget.core.spec import parse, recipe_of, spell
from eigenforget.data.sources import TensorSource
from eigenforget.experiments.experiment import described
from eigenforget.methods import METHODS, SCRUB, Engram, Finetune, Masked, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.methods.published import PublishedRun
from eigenforget.methods.unlearn import run_method
from eigenforget.models import MODELS
from eigenforget.training.engine import Engine


class Pin(NamedTuple):
    """Lines of the source, and the fragment of them that each field is read from."""

    lines: str
    fields: Mapping[str, str]


OURS = {
    "retain_samples": "None takes all samples, as published code does",
    "drops": "() is no step decay, which the fragment of the schedule shows",
    "importance_samples": "None takes all samples, as published code does",
    "chunk": "memory only",
    "rewind": "SCRUB+R is a choice beside the recipe",
    "target_error": "SCRUB+R's, measured by the user",
    "held_out": "SCRUB+R's",
    "target_accuracy": "measured on the user's own data",
    "proxy": "a choice of the command",
    "heldout_epochs": "of the other proxy",
    "heldout_lr": "of the other proxy",
    "doublings": "published code doubles without end",
}
"""Fields that no published run sets, with the reason."""

SALUN_CODE = """
arg_parser.py:69: parser.add_argument("--batch_size", type=int, default=256, help="batch size")
arg_parser.py:71: parser.add_argument("--momentum", default=0.9, type=float, help="momentum")
arg_parser.py:72: parser.add_argument("--weight_decay", default=5e-4, type=float, ...)
arg_parser.py:78: parser.add_argument("--decreasing_lr", default="91,136", ...)
unlearn/impl.py: optimizer = torch.optim.SGD(model.parameters(), args.unlearn_lr,
    momentum=args.momentum, weight_decay=args.weight_decay)
unlearn/impl.py: scheduler = MultiStepLR(optimizer, milestones=decreasing_lr, gamma=0.1)
"""
"""Unlearn-Saliency's and Scissorhands' code have the same trainer; nothing clips in it."""
SALUN_SGD = {
    "batch_size": '"--batch_size", type=int, default=256',
    "momentum": '"--momentum", default=0.9',
    "nesterov": "momentum=args.momentum, weight_decay=args.weight_decay)",
    "weight_decay": '"--weight_decay", default=5e-4',
    "schedule": 'default="91,136"',
}
DELETE_CODE = """
config/cifar10_resnet18.yaml:3: batch_size: 128
config/cifar10_resnet18.yaml:5: unlearn_epoch: 20
method/*.py: optimizer = torch.optim.SGD(unlearn_model.parameters(), lr=unlearn_rate, momentum=0.9)
method/*.py: unlearn_model.train()
method/*.py: loss.backward() optimizer.step()
"""
DELETE_SGD = {
    "epochs": "unlearn_epoch: 20",
    "batch_size": "batch_size: 128",
    "momentum": "momentum=0.9",
    "nesterov": "momentum=0.9)",
    "weight_decay": "torch.optim.SGD(unlearn_model.parameters(), lr=unlearn_rate, momentum=0.9)",
    "schedule": "loss.backward() optimizer.step()",
}
MIA_CODE = """
cell 22: args.retain_bs = 32
cell 22: args.forget_bs = 16
cell 16: optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.0)
cell 20: args.lr_decay_epochs = [10,15,20]
"""
MIA_SGD = {
    "momentum": "torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.0)",
    "nesterov": "torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.0)",
    "weight_decay": "weight_decay=0.0",
}
SCRUB_CODE = """
cell: args.lr_decay_epochs = [3,5,9]
cell: args.lr_decay_rate = 0.1
cell: args.sgda_weight_decay = 5e-4
cell: args.sgda_momentum = 0.9
cell: args.sgda_learning_rate = 0.0005
cell: args.kd_T = 4
cell: optimizer = optim.SGD(trainable_list.parameters(), lr=args.sgda_learning_rate,
    momentum=args.sgda_momentum, weight_decay=args.sgda_weight_decay)
helper/util.py: steps = np.sum(epoch > np.asarray(opt.lr_decay_epochs))
helper/loops.py (train_distill): loss.backward() optimizer.step()
"""
SCRUB_SGD = {
    "temperature": "args.kd_T = 4",
    "lr": "args.sgda_learning_rate = 0.0005",
    "momentum": "args.sgda_momentum = 0.9",
    "nesterov": "momentum=args.sgda_momentum, weight_decay=args.sgda_weight_decay)",
    "weight_decay": "args.sgda_weight_decay = 5e-4",
    "schedule": "args.lr_decay_epochs = [3,5,9]",
    "clip": "loss.backward() optimizer.step()",
    "one_optimizer": "optimizer = optim.SGD(trainable_list.parameters()",
}
BOUNDARY_CODE = """
main.py:32: parser.add_argument('--batch_size', type=int, default=64, help='batch size')
boundary_unlearning.py:15: bound=0.1, step=8 / 255, iter=5, poison_epoch=10, ...
boundary_unlearning.py:31: optimizer = torch.optim.SGD(unlearn_model.parameters(), lr=0.00001, momentum=0.9)
boundary_unlearning.py:52: unlearn_model.train()
boundary_unlearning.py:127: finetune_epochs = 10
boundary_unlearning.py:130: optimizer_picker(optimization, widen_model.parameters(), lr=0.00001, momentum=0.9)
boundary_unlearning.py:146: widen_model.train()
trainer.py:29: optimizer = optim.SGD(param, lr=lr, momentum=momentum)
adv_generator.py:15: self.std = (0.2023, 0.1994, 0.2010)
adv_generator.py: x_adv = self.inverse_normalize(x_adv) + grad_sign * bound (0.1 / 0.2 = 0.5)
"""
CMF_CODE = """
run_resnet_18_CMF_unlearning.sh:87: LR[random_label_CMF_RemoveFC|cifar10|single]=1e-4
run_resnet_18_CMF_unlearning.sh:88: LR[random_label_CMF_RemoveFC|cifar10|multi]=2e-3
run_resnet_18_CMF_unlearning.sh: random_label_CMF_RemoveFC) epochs=4 extra_flags=--grad-norm-clip 1.0
run_resnet_18_CMF_unlearning.sh: --batch-size 128
main.py:33: '--momentum', type=float, default=0.9
main.py:35: '--weight-decay', type=float, default=5e-4
unlearn/random_label.py:48: torch.optim.SGD(..., momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True)
unlearn/random_label.py:80: DataLoader(ConcatDataset([forget_sub, retain_sub]), ..., shuffle=True)
unlearn/random_label.py:87: valid = [c for c in range(num_classes) if c not in forget_classes]
unlearn/random_label.py: for inputs, labels_true in mixed_loader: ... rand = choices[torch.randint(...)]
unlearn/random_label.py: temp = getattr(model.args, "temperature", 1.0)
unlearn/random_label.py: loss.backward() ... clip_grad_norm_ ... optimizer.step()
"""


def cmf(lr: str) -> Pin:
    fields = {
        "temperature": '"temperature", 1.0',
        "inner.epochs": "epochs=4",
        "inner.lr": lr,
        "inner.momentum": "'--momentum', type=float, default=0.9",
        "inner.nesterov": "nesterov=True",
        "inner.weight_decay": "'--weight-decay', type=float, default=5e-4",
        "inner.schedule": "optimizer.step()",
        "inner.batch_size": "--batch-size 128",
        "inner.clip": "--grad-norm-clip 1.0",
        "inner.redraw": "in mixed_loader: ... rand = choices[torch.randint(...)]",
        "inner.candidates": "if c not in forget_classes",
        "inner.retain_steps": "ConcatDataset([forget_sub, retain_sub])",
        "inner.one_optimizer": "optimizer.step()",
    }
    return Pin(CMF_CODE, fields)


def lotus(line: str, *, lr: str, batch_size: str) -> Pin:
    code = """
    config.py:40: parser.add_argument("--batch_size", type=int, default=128)
    config.py:44: parser.add_argument("--lr", type=float, help="learning rate", default=1e-4)
    config.py:46: parser.add_argument("--weight_decay", type=float, default=5e-4, ...)
    config.py:54: parser.add_argument("--subset_size", type=float, default=0.3)
    """
    fields = {
        "epochs": re.findall(r"--epochs[ =]\d+", line)[0],
        "alpha": re.findall(r"--alpha[ =]\d+", line)[0],
        "lr": lr,
        "batch_size": batch_size,
        "weight_decay": '"--weight_decay", type=float, default=5e-4',
        "retain_share": '"--subset_size", type=float, default=0.3',
    }
    return Pin(code + line, fields)


def scissorhands(line: str, **more: str) -> Pin:
    fields = {
        **SALUN_SGD,
        "epochs": re.findall(r"--unlearn_epochs \d+", line)[0],
        "lr": re.findall(r"--unlearn_lr [\d.]+", line)[0],
    }
    code = SALUN_CODE + "unlearn/*.py: model.train() ... loss.backward() optimizer.step()\n"
    return Pin(code + f"main_0.1_cifar10.sh: {line}", {**fields, **more})


def delete(line: str, *, extra: str = "", **more: str) -> Pin:
    fields = {**DELETE_SGD, "lr": line.split(maxsplit=1)[1]}
    return Pin(DELETE_CODE + f"scripts.sh: {line}\n{extra}", {**fields, **more})


PINS: dict[tuple[str, str], Pin] = {
    ("finetune", "cifar10-resnet18-scissorhands"): scissorhands(
        "--unlearn FT --num_indexes_to_replace 4500 --unlearn_lr 0.01 --unlearn_epochs 10"
    ),
    ("finetune", "cifar10-resnet18-delete"): delete("finetune --unlearn_rate 2e-2"),
    ("finetune", "cifar10-resnet18-scrub"): Pin(
        MIA_CODE + "cell 22: args.ft_lr = 0.04\ncell 22: args.ft_epochs = 10\n"
        "cell 16: for epoch in range(epochs): train_vanilla(...)",
        {
            **MIA_SGD,
            "epochs": "args.ft_epochs = 10",
            "lr": "args.ft_lr = 0.04",
            "batch_size": "args.retain_bs = 32",
            "schedule": "for epoch in range(epochs): train_vanilla(...)",
        },
    ),
    ("gradient_ascent", "cifar10-resnet18-scissorhands"): scissorhands(
        "--unlearn GA --num_indexes_to_replace 4500 --unlearn_lr 0.0001 --unlearn_epochs 5\n"
        "unlearn/GA.py:88: for i, (image, target) in enumerate(train_loader): "
        "loss = -criterion(output_clean, target)",
        steps_per_epoch="in enumerate(train_loader)",
        clip="loss.backward() optimizer.step()",
        norm="model.train()",
    ),
    ("gradient_ascent", "cifar10-resnet18-delete"): delete(
        "gradient_ascent --unlearn_rate 1e-5",
        extra="method/gradient_ascent.py: for x, y in train_forget_loader:",
        steps_per_epoch="for x, y in train_forget_loader:",
        clip="loss.backward() optimizer.step()",
        norm="unlearn_model.train()",
    ),
    ("neg_grad_plus", "cifar10-resnet18-scrub"): Pin(
        MIA_CODE + "cell 22: args.ng_alpha = 0.9999\ncell 22: args.ng_epochs = 5\n"
        "cell 22: args.ng_lr = 0.01\n"
        "cell 16: for epoch in range(epochs): train_negrad(...)\n"
        "helper/loops.py (train_negrad): loss.backward() optimizer.step()",
        {
            **MIA_SGD,
            "epochs": "args.ng_epochs = 5",
            "alpha": "args.ng_alpha = 0.9999",
            "lr": "args.ng_lr = 0.01",
            "schedule": "for epoch in range(epochs): train_negrad(...)",
            "clip": "loss.backward() optimizer.step()",
            "batch_size": "args.retain_bs = 32",
            "forget_batch_size": "args.forget_bs = 16",
        },
    ),
    ("random_label", "cifar10-resnet18-delete"): delete(
        "random_label --unlearn_rate 3e-4",
        extra="main.py:73: '--fixed_noise_label', type=str2bool, default=True\n"
        "main.py:74: '--approx_different', type=str2bool, default=True\n"
        "method/random_label.py:18: noisy_label = torch.randint(0, num_classes, ...)\n"
        "method/random_label.py:74: for x, y in train_forget_loader_randlabel:",
        clip="loss.backward() optimizer.step()",
        redraw="'--fixed_noise_label', type=str2bool, default=True",
        candidates="noisy_label = torch.randint(0, num_classes",
        retain_steps="for x, y in train_forget_loader_randlabel:",
        one_optimizer="optimizer = torch.optim.SGD(unlearn_model.parameters()",
    ),
    ("random_label", "cifar10-resnet18-lotus"): Pin(
        """
        naive_unlearning_class.py:37: self.lr = 1e-3
        naive_unlearning_class.py:38: self.momentum = 0.9
        naive_unlearning_class.py:39: self.weight_decay = 5e-4
        naive_unlearning_class.py:40: self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        naive_unlearning_class.py:128: for epoch in tqdm(range(self.epochs)): ... random_forget_labels = []
        naive_unlearning_class.py:136: while rnd == y: rnd = random.randint(0, self.num_classes - 1)
        naive_unlearning_class.py: # Repair stage: Finetune on the "retain" set
        naive_unlearning_class.py: loss.backward() self.optimizer.step()
        config.py:40: parser.add_argument("--batch_size", type=int, default=128)
        reproduce_results.sh:22: python unlearn.py --epochs 10 --registered_model resnet18-cifar-10-$seed-retrained --method $baseline
        """,
        {
            "epochs": "--epochs 10",
            "lr": "self.lr = 1e-3",
            "momentum": "self.momentum = 0.9",
            "nesterov": "momentum=self.momentum, weight_decay=self.weight_decay)",
            "weight_decay": "self.weight_decay = 5e-4",
            "schedule": "self.optimizer.step()",
            "batch_size": '"--batch_size", type=int, default=128',
            "clip": "loss.backward() self.optimizer.step()",
            "redraw": "for epoch in tqdm(range(self.epochs)): ... random_forget_labels = []",
            "candidates": "while rnd == y:",
            "retain_steps": '# Repair stage: Finetune on the "retain" set',
            "one_optimizer": "self.optimizer = torch.optim.SGD",
        },
    ),
    ("masked", "cifar10-resnet18-salun"): Pin(
        SALUN_CODE + "README.md:34: python main_random.py --unlearn RL --unlearn_epochs 10 "
        "--unlearn_lr 0.013 --num_indexes_to_replace 4500 ... --mask_path mask/with_0.5.pt\n"
        "unlearn/RL.py:123: for i, (image, target) in enumerate(forget_loader):\n"
        "unlearn/RL.py:125: target = torch.randint(0, args.num_classes, target.shape).cuda()\n"
        "unlearn/RL.py:132: loss.backward() ... optimizer.step()\n"
        "unlearn/RL.py:142: for i, (image, target) in enumerate(retain_loader):",
        {
            **{f"inner.{name}": fragment for name, fragment in SALUN_SGD.items()},
            "keep_top": "mask/with_0.5.pt",
            "inner.epochs": "--unlearn_epochs 10",
            "inner.lr": "--unlearn_lr 0.013",
            "inner.clip": "loss.backward() ... optimizer.step()",
            "inner.redraw": "target = torch.randint(0, args.num_classes, target.shape)",
            "inner.candidates": "torch.randint(0, args.num_classes",
            "inner.retain_steps": "in enumerate(retain_loader):",
            "inner.one_optimizer": "optimizer = torch.optim.SGD(model.parameters()",
        },
    ),
    ("bad_teacher", "cifar20-resnet18-badteaching"): Pin(
        """
        cell 6: retain_train_subset = random.sample(retain_train, int(0.3*len(retain_train)))
        cell 15: KL_temperature = 1
        cell 15: optimizer = torch.optim.Adam(student_model.parameters(), lr = 0.0001)
        cell 15: retain_data = retain_train_subset, forget_data = forget_train, epochs = 1, ...
        cell 15: batch_size = 256, num_workers = 32, ...
        """,
        {
            "epochs": "epochs = 1",
            "lr": "lr = 0.0001",
            "temperature": "KL_temperature = 1",
            "retain_share": "int(0.3*len(retain_train))",
            "batch_size": "batch_size = 256",
        },
    ),
    ("scrub", "cifar10-resnet18-scrub"): Pin(
        SCRUB_CODE + MIA_CODE + "cell 18: args.gamma = 1\ncell 18: args.alpha = 0.5\n"
        "cell 18: args.msteps = 3\ncell 18: args.sgda_epochs = 5\n"
        "lr of epochs 4 and 5: args.sgda_learning_rate * args.lr_decay_rate = 5e-5",
        {
            **SCRUB_SGD,
            "epochs": "args.sgda_epochs = 5",
            "msteps": "args.msteps = 3",
            "alpha": "args.alpha = 0.5",
            "gamma": "args.gamma = 1",
            "alone_lr": "args.lr_decay_rate = 5e-5",
            "batch_size": "args.retain_bs = 32",
            "forget_batch_size": "args.forget_bs = 16",
        },
    ),
    ("scrub", "cifar10-allcnn-scrub"): Pin(
        SCRUB_CODE + "cell 32: args.gamma = 0.99\ncell 32: args.alpha = 0.001\n"
        "cell 32: args.msteps = 2\ncell 32: args.sgda_epochs = 3\n"
        "cell 28: forget_loader = replace_loader_dataset(..., forget_dataset, batch_size=512, ...)\n"
        "cell 28: retain_loader = replace_loader_dataset(..., retain_dataset, batch_size=256, ...)",
        {
            **SCRUB_SGD,
            "epochs": "args.sgda_epochs = 3",
            "msteps": "args.msteps = 2",
            "alpha": "args.alpha = 0.001",
            "gamma": "args.gamma = 0.99",
            "alone_lr": "args.lr_decay_epochs = [3,5,9]",
            "batch_size": "retain_dataset, batch_size=256",
            "forget_batch_size": "forget_dataset, batch_size=512",
        },
    ),
    ("l1_sparse", "cifar10-resnet18-scissorhands"): scissorhands(
        "--unlearn FT_prune --num_indexes_to_replace 4500 --alpha 0.0001 --unlearn_lr 0.01 "
        "--unlearn_epochs 10\narg_parser.py: parser.add_argument('--no-l1-epochs', default=0)\n"
        "unlearn/FT.py: current_alpha = args.alpha * (1 - epoch / (args.unlearn_epochs - ...))",
        gamma="--alpha 0.0001",
        penalty="args.alpha * (1 - epoch / (args.unlearn_epochs - ...))",
        plain_epochs="'--no-l1-epochs', default=0",
    ),
    ("ssd", "cifar20-resnet18-ssd"): Pin(
        """
        forget_full_class_main.py:58: parser.add_argument("-b", type=int, default=64, ...)
        forget_full_class_main.py:176: "dampening_constant": 1,
        forget_full_class_main.py:177: "selection_weighting": 10 * model_size_scaler,
        ssd.py:168: loss = criterion(out, y) loss.backward() ... imp.data += p.grad.data.clone().pow(2)
        """,
        {
            "alpha": '"selection_weighting": 10 *',
            "dampening": '"dampening_constant": 1,',
            "estimator": "imp.data += p.grad.data.clone().pow(2)",
            "batch_size": '"-b", type=int, default=64',
        },
    ),
    ("lfssd", "cifar20-resnet18-supreme"): Pin(
        """
        unlearn_main.py:617: dampening_constant = 1
        unlearn_main.py:630: model_size_scaler = 0.5  # alpha is 5
        unlearn_main.py:1348: "-batch_size", type=int, default=64, help="batch size for dataloader"
        lfssd.py: loss = torch.norm(out, p="fro", dim=1).pow(2).mean() ... p.grad.data.clone().abs()
        """,
        {
            "alpha": "# alpha is 5",
            "dampening": "dampening_constant = 1",
            "estimator": 'torch.norm(out, p="fro", dim=1).pow(2).mean()',
            "batch_size": '"-batch_size", type=int, default=64',
        },
    ),
    ("fisher_forgetting", "cifar10-allcnn-scrub"): Pin(
        """
        cell 48: hessian(retain_loader.dataset, modelf)
        cell 50: var = copy.deepcopy(1./(p.grad2_acc+1e-8))
        cell 50: var = var.clamp(max=1e3)
        cell 51: alpha = 1e-7
        """,
        {
            "alpha": "alpha = 1e-7",
            "form": "1./(p.grad2_acc+1e-8)",
            "limit": "var.clamp(max=1e3)",
            "importance_samples": "hessian(retain_loader.dataset, modelf)",
        },
    ),
    ("boundary_shrink", "cifar10-allcnn-boundary"): Pin(
        BOUNDARY_CODE,
        {
            "epochs": "poison_epoch=10",
            "lr": "torch.optim.SGD(unlearn_model.parameters(), lr=0.00001",
            "momentum": "lr=0.00001, momentum=0.9)",
            "nesterov": "lr=0.00001, momentum=0.9)",
            "weight_decay": "torch.optim.SGD(unlearn_model.parameters(), lr=0.00001, momentum=0.9)",
            "schedule": "torch.optim.SGD(unlearn_model.parameters(), lr=0.00001, momentum=0.9)",
            "batch_size": "'--batch_size', type=int, default=64",
            "step": "grad_sign * bound (0.1 / 0.2 = 0.5)",
            "norm": "unlearn_model.train()",
        },
    ),
    ("boundary_shrink", "cifar10-resnet18-delete"): delete(
        "boundary_shrink --unlearn_rate 5e-5",
        extra="method/boundary_shrink.py:20: bound=0.1, step=8 / 255, iter=5,\n"
        "method/_adv_generator.py:19: self.std = (0.2470, 0.2435, 0.2616) (0.1 / 0.25 = 0.4)",
        step="0.1 / 0.25 = 0.4",
        norm="unlearn_model.train()",
    ),
    ("boundary_shrink", "cifar10-resnet18-scissorhands"): scissorhands(
        "--unlearn boundary_shrink --num_indexes_to_replace 4500 --unlearn_lr 0.000001 "
        "--unlearn_epochs 10\nunlearn/boundary_sh.py:37: bound = 0.1  # hard coding in the paper",
        step="bound = 0.1",
        norm="model.train()",
    ),
    ("boundary_expand", "cifar10-allcnn-boundary"): Pin(
        BOUNDARY_CODE,
        {
            "epochs": "finetune_epochs = 10",
            "lr": "widen_model.parameters(), lr=0.00001",
            "momentum": "widen_model.parameters(), lr=0.00001, momentum=0.9)",
            "nesterov": "optim.SGD(param, lr=lr, momentum=momentum)",
            "weight_decay": "optim.SGD(param, lr=lr, momentum=momentum)",
            "schedule": "optim.SGD(param, lr=lr, momentum=momentum)",
            "batch_size": "'--batch_size', type=int, default=64",
            "norm": "widen_model.train()",
        },
    ),
    ("boundary_expand", "cifar10-resnet18-delete"): delete(
        "boundary_expand --unlearn_rate 8e-4", norm="unlearn_model.train()"
    ),
    ("boundary_expand", "cifar10-resnet18-scissorhands"): scissorhands(
        "--unlearn boundary_expanding --num_indexes_to_replace 4500 --unlearn_lr 0.000001 "
        "--unlearn_epochs 10",
        norm="model.train()",
    ),
    ("unsir", "cifar10-resnet18-unsir"): Pin(
        """
        cell 20: num_samples_per_class = 1000
        cell 23: model = resnet18(num_classes = 10).to(device = device) (never put into eval mode)
        cell 24: noises[cls] = Noise(batch_size, 3, 32, 32).cuda()
        cell 24: opt = torch.optim.Adam(noises[cls].parameters(), lr = 0.1)
        cell 24: num_epochs = 5 num_steps = 8 (5 * 8 = 40)
        cell 24: loss = -F.cross_entropy(...) + 0.1*torch.mean(torch.sum(torch.square(inputs), [1, 2, 3]))
        cell 26: batch_size = 256
        cell 26: num_batches = 20
        cell 26: for i in range(batch[0].size(0)): (an image [3, 32, 32])
        cell 26: optimizer = torch.optim.Adam(model.parameters(), lr = 0.02)
        cell 30: optimizer = torch.optim.Adam(model.parameters(), lr = 0.01)
        cell 30: for epoch in range(1):
        """,
        {
            "noise_samples": "batch_size = 256",
            "noise_steps": "5 * 8 = 40",
            "noise_lr": "noises[cls].parameters(), lr = 0.1",
            "noise_penalty": "0.1*torch.mean",
            "repeats": "num_batches = 20",
            "impair_samples": "batch[0].size(0)): (an image [3, 32, 32])",
            "noise_norm": "(never put into eval mode)",
            "retain_per_class": "num_samples_per_class = 1000",
            "impair_lr": "lr = 0.02",
            "repair_lr": "model.parameters(), lr = 0.01",
            "repair_epochs": "for epoch in range(1):",
            "batch_size": "cell 26: batch_size = 256",
        },
    ),
    ("delete", "cifar10-resnet18-delete"): delete(
        "delete --unlearn_rate 1e-3", norm="unlearn_model.train()"
    ),
    ("delete", "tinyimagenet-resnet18-delete"): Pin(
        DELETE_CODE + "config/tiny_imagenet_resnet18.yaml: batch_size: 64\n"
        "config/tiny_imagenet_resnet18.yaml: unlearn_epoch: 20\n"
        "config/tiny_imagenet_resnet18.yaml: unlearn_rate: 5e-5",
        {
            **DELETE_SGD,
            "epochs": "tiny_imagenet_resnet18.yaml: unlearn_epoch: 20",
            "lr": "unlearn_rate: 5e-5",
            "batch_size": "batch_size: 64",
            "norm": "unlearn_model.train()",
        },
    ),
    ("esc", "cifar10-allcnn-esc"): Pin(
        """
        README.md: python unlearn.py --exp ESC_AllCNN_CIFAR10 --model_name AllCNN --method ESC ...
        unlearn.py:117: parser.add_argument('--p', type=float, default=1.5, ...)
        """,
        {"drop_percent": "'--p', type=float, default=1.5"},
    ),
    ("esc_t", "cifar10-allcnn-esc"): Pin(
        """
        README.md: python unlearn.py --exp ESC_T_AllCNN_CIFAR10 --model_name AllCNN --method ESC_T ...
        unlearn.py:101: parser.add_argument('--lr', type=float, default=1e-3, ...)
        unlearn.py:102: parser.add_argument('--epoch', type=int, default=50, ...)
        unlearn.py:103: parser.add_argument('--batch_size', type=int, default=64, ...)
        unlearn.py:118: parser.add_argument('--threshold', type=float, default=0.7, ...)
        unlearn.py: loss = -criterion(outputs[learned], y[learned])
        """,
        {
            "lr": "'--lr', type=float, default=1e-3",
            "epochs": "'--epoch', type=int, default=50",
            "batch_size": "'--batch_size', type=int, default=64",
            "threshold": "'--threshold', type=float, default=0.7",
            "loss": "loss = -criterion(outputs[learned], y[learned])",
        },
    ),
    ("cmf", "cifar10-resnet18-cmf"): cmf("cifar10|single]=1e-4"),
    ("cmf", "cifar10-resnet18-cmf-three"): cmf("cifar10|multi]=2e-3"),
    ("lotus", "cifar10-resnet18-lotus"): lotus(
        "reproduce_results.sh:19: python unlearn.py --epochs 10 --registered_model "
        "resnet18-cifar-10-$seed-retrained --method our --alpha 8",
        lr='help="learning rate", default=1e-4',
        batch_size='"--batch_size", type=int, default=128',
    ),
    ("lotus", "cifar10-resnet18-lotus-class"): lotus(
        "class_reproduce_results.sh:21: python unlearn.py ... --method=our --lr=1e-4 --alpha=32 "
        "--subset_size=0.3 --epochs=10 --is_class_unlearning=True",
        lr="--lr=1e-4",
        batch_size='"--batch_size", type=int, default=128',
    ),
    ("lotus", "cifar100-resnet18-lotus"): lotus(
        "reproduce_results.sh:32: python unlearn.py --epochs 10 --registered_model "
        "resnet18-cifar-100-$seed-retrained --method our --alpha 2",
        lr='help="learning rate", default=1e-4',
        batch_size='"--batch_size", type=int, default=128',
    ),
    ("lotus", "cifar10-vit-lotus"): lotus(
        "reproduce_results.sh:62: python unlearn.py --epochs 3 --registered_model "
        "vit-cifar-10-$seed-retrained --batch_size 32 --method our --lr 1e-6 --alpha 2",
        lr="--lr 1e-6",
        batch_size="--batch_size 32",
    ),
    ("cf_k", "cifar10-resnet18-scrub"): Pin(
        MIA_CODE + "cell 20: args.cfk_lr = 0.01\ncell 20: args.cfk_epochs = 10\n"
        "cell 20: args.cfk_bs = 64\n"
        "cell 20: for param in model_cfk.layer4.parameters(): param.requires_grad_(True) "
        "(5 convolutions and the head after them: 6)",
        {
            **MIA_SGD,
            "k": "(5 convolutions and the head after them: 6)",
            "epochs": "args.cfk_epochs = 10",
            "lr": "args.cfk_lr = 0.01",
            "batch_size": "args.cfk_bs = 64",
            "schedule": "args.lr_decay_epochs = [10,15,20]",
        },
    ),
    ("eu_k", "cifar10-resnet18-scrub"): Pin(
        MIA_CODE + "cell 21: args.euk_lr = 0.01\ncell 21: args.euk_epochs = training_epochs\n"
        "cell 22: training_epochs=25\ncell 21: args.euk_bs = 64\n"
        "cell 21: for param in model_euk.layer4.parameters(): param.requires_grad_(True) "
        "(5 convolutions and the head after them: 6)",
        {
            **MIA_SGD,
            "k": "(5 convolutions and the head after them: 6)",
            "epochs": "training_epochs=25",
            "lr": "args.euk_lr = 0.01",
            "batch_size": "args.euk_bs = 64",
            "schedule": "args.lr_decay_epochs = [10,15,20]",
            "drops": "args.lr_decay_epochs = [10,15,20]",
        },
    ),
}

PINS["wood_fisher", "cifar10-resnet18-scissorhands"] = Pin(
    """
    main_0.1_cifar10.sh:20: --unlearn wfisher --num_indexes_to_replace 4500 --alpha 10
    unlearn/Wfisher.py: N = 1000
    unlearn/Wfisher.py: if idx > N: return k_vec (from idx = 0: 1002 samples)
    """,
    {
        "alpha": "--alpha 10",
        "damping": "N = 1000",
        "samples": "if idx > N: return k_vec (from idx = 0: 1002 samples)",
    },
)
PINS["engram", "cifar10-resnet18-engram"] = Pin(
    """
    cell 1: precision: torch.dtype = torch.float64
    cell 1: damping_factor: float = 0.0 # Set to 0.0 to rely on pinv's SVD thresholding
    cell 1: edit_strength: float = 1.0
    cell 1: return unfolded.transpose(1, 2).reshape(-1, unfolded.size(1))
    """,
    {
        "alpha": "edit_strength: float = 1.0",
        "cutoff": "precision: torch.dtype = torch.float64",
        "bias": "return unfolded.transpose(1, 2).reshape(-1, unfolded.size(1))",
    },
)
PINS["sfr_on", "cifar10-resnet18-sfron"] = Pin(
    """
    sfron.py: # CIFAR10 10%
    sfron.py: self.opt = 'sgd' self.momentum = 0.9 self.weight_decay = 5e-4 self.retain_lr = 0.01
    sfron.py: self.n_iters = 1500 self.unlearn_loss = "adaga" self.forget_freq = 5 (1500 / 5 = 300)
    sfron.py: self.forget_alpha = 25 self.max_norm = 7.0
    sfron.py: self.sched = 'cosine' self.lambd = 0.5 # lambda in the paper
    sfron.py: self.th = 1 # gamma in the paper
    sfron.py: torch.optim.SGD(self.model.parameters(), self.retain_lr, momentum=self.momentum, weight_decay=self.weight_decay)
    sfron.py: scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.n_iters)
    sfron.py: forget_gradients[name] += param.grad.data.cpu()**2 / len(forget_loader)
    scripts/unlearn.sh: batch_size=128 ... forget_perc=0.1
    """,
    {
        "forget_steps": "1500 / 5 = 300",
        "retain_steps": "self.forget_freq = 5",
        "alpha": "self.forget_alpha = 25",
        "adaptive": "self.lambd = 0.5",
        "threshold": "self.th = 1",
        "estimator": "param.grad.data.cpu()**2 / len(forget_loader)",
        "lr": "self.retain_lr = 0.01",
        "momentum": "self.momentum = 0.9",
        "nesterov": "momentum=self.momentum, weight_decay=self.weight_decay)",
        "weight_decay": "self.weight_decay = 5e-4",
        "schedule": "CosineAnnealingLR(optimizer, T_max=self.n_iters)",
        "batch_size": "batch_size=128",
        "clip": "self.max_norm = 7.0",
    },
)
PINS["amun", "cifar10-resnet18-amun"] = Pin(
    """
    README.md: python batch_job_submit.py --job_type MIA ... amun/5000/... --epoch 9 --LRsteps 1 --lr 0.01
    hyperparam_tune.py: parser.add_argument('--epoch', default=10, ...)
    adversarial_unlearn.py: parser.add_argument('--batch_size', default=128, type=int, ...)
    adversarial_unlearn.py:993: optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    adversarial_unlearn.py:1006: scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=0.1)
    adversarial_unlearn.py: trainset_combined = torch.utils.data.ConcatDataset([trainset, advset])
    pgdl2_modified.py: def __init__(self, model, eps=0.04, steps=50, ...) self.alpha = self.eps / 10.
    """,
    {
        "epochs": "'--epoch', default=10",
        "lr": "--LRsteps 1 --lr 0.01",
        "momentum": "momentum=0.9",
        "nesterov": "momentum=0.9, weight_decay=5e-4)",
        "weight_decay": "weight_decay=5e-4",
        "schedule": "StepLR(optimizer, step_size=step_size, gamma=0.1)",
        "drops": "StepLR(optimizer, step_size=step_size, gamma=0.1)",
        "batch_size": "'--batch_size', default=128",
        "radius": "eps=0.04",
        "steps": "steps=50",
        "forget_samples": "ConcatDataset([trainset, advset])",
    },
)


def jit(lines: str, *, lr: str, sigma: str) -> Pin:
    code = """
    lipschitz.py: optimizer = torch.optim.SGD(self.model.parameters(), lr=self.learning_rate)
    lipschitz.py: self.opt.zero_grad() (before the loop over batches, and not in it)
    lipschitz.py: for x,_, y in forget_dl: ... loss.backward() optimizer.step() (no loop over epochs: 1)
    lipschitz.py: torch.linalg.vector_norm(flatimg - flatimg2, dim=1)
    forget_full_class_strategies.py: n_samples=25,
    forget_full_class_main.py: parser.add_argument('-b', type=int, default=128, ...)
    models.py: self.model = vgg11() (no batch norm)
    """
    steps = "loss.backward() optimizer.step()"
    return Pin(
        code + lines,
        {
            "epochs": "(no loop over epochs: 1)",
            "lr": lr,
            "momentum": "torch.optim.SGD(self.model.parameters(), lr=self.learning_rate)",
            "nesterov": "torch.optim.SGD(self.model.parameters(), lr=self.learning_rate)",
            "weight_decay": "torch.optim.SGD(self.model.parameters(), lr=self.learning_rate)",
            "schedule": steps,
            "batch_size": "'-b', type=int, default=128",
            "sigma": sigma,
            "noises": "n_samples=25",
            "adds_up": "self.opt.zero_grad() (before the loop over batches, and not in it)",
            "norm": "(no batch norm)",
        },
    )


RUM_PARTS = {
    "low": "--alpha 0.99 --unlearn_epochs 5 --unlearn_lr 0.01",
    "medium": "--alpha 0.97 --unlearn_epochs 5 --unlearn_lr 0.01",
    "high": "--alpha 0.97 --unlearn_epochs 10 --unlearn_lr 0.001",
}
PINS["rum", "cifar10-resnet18-rum"] = Pin(
    """
    main_rum_proxy.py: # RUM: NegGrad+ --> NegGrad+ --> NegGrad+ (low-medium-high ...)
    main_rum_proxy.py: --sequential ... --mem low --unlearn {unlearn} ...
        --alpha 0.99 --unlearn_epochs 5 --unlearn_lr 0.01
    main_rum_proxy.py: --sequential ... --mem mid --unlearn {unlearn} ...
        --alpha 0.97 --unlearn_epochs 5 --unlearn_lr 0.01
    main_rum_proxy.py: --sequential ... --mem high --unlearn {unlearn} ...
        --alpha 0.97 --unlearn_epochs 10 --unlearn_lr 0.001
    arg_parser.py:55: "--batch_size", type=int, default=256
    arg_parser.py:57: "--momentum", default=0.9
    arg_parser.py:58: "--weight_decay", default=5e-4
    arg_parser.py:62: "--decreasing_lr", default="91,136"
    unlearn/impl.py: torch.optim.SGD( model.parameters(), args.unlearn_lr,
        momentum=args.momentum, weight_decay=args.weight_decay, )
    unlearn/neggrad.py: loss = args.alpha*r_loss - (1-args.alpha)*del_loss
    unlearn/neggrad.py: optimizer.zero_grad() loss.backward() ... optimizer.step()
    """,
    {
        f"{part}.{field}": fragment
        for part, line in RUM_PARTS.items()
        for field, fragment in {
            "epochs": line,
            "lr": line,
            "alpha": line,
            "momentum": '"--momentum", default=0.9',
            "nesterov": "momentum=args.momentum, weight_decay=args.weight_decay, )",
            "weight_decay": '"--weight_decay", default=5e-4',
            "schedule": 'default="91,136"',
            "clip": "optimizer.zero_grad() loss.backward() ... optimizer.step()",
            "batch_size": '"--batch_size", type=int, default=256',
            "forget_batch_size": '"--batch_size", type=int, default=256',
        }.items()
    },
)
PINS["rem", "cifar10-resnet9-rem"] = Pin(
    """
    rem/experiments_run.sh: rn_unlearn_iters=980 (of 98 steps: 10 passes)
    rem/experiments_run.sh: rn_unlearn_lr=0.005
    rem/experiments_run.sh: rn_batch_size=512
    rem/experiments_run.sh: core_experiments=("ETDfix50mem0drop1" ...) (0.5 / 0.5 = 1.0)
    rem/src/config.py: removing_threshold = 0.2
    rem/src/config.py: rem_mod_maxwhile_iters_flush = 100
    rem/src/config.py: force_pmem = ( 0.2 # pmem mask size used when pmem is forced ...
    rem/src/config.py: end_factor = 1.0 start_factor = 1.0
    rem/src/opts.py: "--wd", type=float, default=0.0005
    rem/src/methods.py (REM): self.beta = 1
    rem/src/methods.py (REM): self.optimizer = torch.optim.SGD( self.model.parameters(),
        lr=self.opt.unlearn_lr, momentum=0.9, weight_decay=self.opt.wd, )
    """,
    {
        "epochs": "rn_unlearn_iters=980 (of 98 steps: 10 passes)",
        "removals": "rem_mod_maxwhile_iters_flush = 100",
        "lr": "rn_unlearn_lr=0.005",
        "momentum": "momentum=0.9",
        "nesterov": "momentum=0.9, weight_decay=self.opt.wd, )",
        "weight_decay": "default=0.0005",
        "schedule": "end_factor = 1.0 start_factor = 1.0",
        "batch_size": "rn_batch_size=512",
        "floor": "removing_threshold = 0.2",
        "capacity": "(0.5 / 0.5 = 1.0)",
        "share": "force_pmem = ( 0.2",
        "beta": "self.beta = 1",
    },
)
PINS["potion", "cifar10-resnet9-potion"] = Pin(
    """
    CIFAR_ptn_runs.sh: unlearn_method="XALFSSD"
    CIFAR_ptn_runs.sh: p_cuts=(0.00 0.05 0.10 0.15 0.20 0.25 0.50 0.75)
    CIFAR_ptn_runs.sh: dataset="CIFAR10" num_classes=10 model="resnet9"
    src/methods.py: STEP_MULT = 1.1 MAX_TRY = 500  # easily enough
    src/methods.py (XALFSSD): if new_model_acc <= min_acc * org_model_acc:
    src/utils.py: self.dampening_constant = 1  # constant from ASSD paper
    src/utils.py: loss = torch.norm(out, p="fro", dim=1).abs().mean()
    src/opts.py: "--batch_size", type=int, default=512,
    """,
    {
        "keep": "0.15 0.20 0.25",
        "tries": "MAX_TRY = 500",
        "dampening": "self.dampening_constant = 1",
        "estimator": 'torch.norm(out, p="fro", dim=1).abs().mean()',
        "batch_size": '"--batch_size", type=int, default=512',
    },
)
PINS["jit", "cifar100-vgg11-jit"] = jit(
    "forget_full_class_main.py: elif args.net == 'VGG16': ... lipschitz_weighting = 0.5 learning_rate = 0.0003",
    lr="learning_rate = 0.0003",
    sigma="lipschitz_weighting = 0.5",
)
PINS["jit", "cifar100-vit-jit"] = jit(
    "forget_full_class_main.py: if args.net == 'ViT': ... lipschitz_weighting = 0.8 learning_rate = 1.5",
    lr="learning_rate = 1.5",
    sigma="lipschitz_weighting = 0.8",
)
PINS["jit", "cifar10-vgg11-jit"] = jit(
    "forget_random_main.py: elif args.net == 'VGG16': ... lipschitz_weighting = 0.01 learning_rate = 0.0003",
    lr="learning_rate = 0.0003",
    sigma="lipschitz_weighting = 0.01",
)
RECIPES = [
    (kind, name)
    for kind in METHODS.own
    for name in kind.recipes
    if (kind.name, name) != ("muda", "paper")  # the paper leaves most fields open
]
EVERY = pytest.mark.parametrize(
    ("kind", "recipe"), RECIPES, ids=[f"{kind.name}-{name}" for kind, name in RECIPES]
)


def flat(settings: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of the settings, with those of a method inside as "inner.lr"."""
    for name, value in settings.items():
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            yield from ((f"{name}.{inner}", v) for inner, v in flat(fields))
        else:
            yield name, value


@EVERY
def test_each_field_is_the_one_in_the_quoted_source(kind: Any, recipe: str) -> None:
    run, pin = kind.recipes[recipe], PINS[kind.name, recipe]
    assert isinstance(run, PublishedRun) and run.source and run.request
    found = {
        name: value
        for name, value in flat(run)
        if name in pin.fields or name.split(".")[-1] not in OURS
    }
    assert set(found) == set(pin.fields)
    quoted = " ".join(pin.lines.split())
    for name, fragment in pin.fields.items():
        assert " ".join(fragment.split()) in quoted, f"{name}: {fragment!r} is in no quoted line"
        value = found[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value != 0:
            numbers = re.findall(r"\d+\.?\d*(?:e-?\d+)?", fragment)
            assert value in {float(number) for number in numbers}, f"{name}={value}: {fragment!r}"


@EVERY
def test_a_recipe_leaves_no_setting_to_our_defaults(kind: Any, recipe: str) -> None:
    given = set(kind.recipes[recipe])
    free = set(OURS) | ({"batch_size"} if kind is Engram else set())  # a sum has no batches
    assert {f.name for f in dataclasses.fields(kind)} - given <= free
    assert kind(recipe=recipe) == kind(**kind.recipes[recipe])


@EVERY
def test_a_recipes_name_begins_with_its_data_and_model(kind: Any, recipe: str) -> None:
    run = kind.recipes[recipe]
    names = [re.sub(r"[^a-z0-9]", "", part.lower()) for part in (run.data.name, run.model.name)]
    assert recipe.split("-")[:2] == names
    assert run.source in str(run) and run.data.name in str(run)


def test_every_pin_is_of_a_recipe() -> None:
    assert set(PINS) == {(kind.name, name) for kind, name in RECIPES}


def test_steps_of_the_rate_are_where_the_source_has_them() -> None:
    """Drops after epochs 10, 15 and 20 of 25."""
    method = METHODS.parse('eu_k(recipe="cifar10-resnet18-scrub")')
    assert method.drops == pytest.approx((10 / 25, 15 / 25, 20 / 25))


def test_the_architecture_is_known_by_its_convolutions() -> None:
    model = MODELS.parse("resnet18()").build(num_classes=10, input_shape=(3, 32, 32), seed=0)
    run = SCRUB.recipes["cifar10-resnet18-scrub"]
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == run.model.convolutions


def images(classes: int, shape: tuple[int, ...]) -> Task:
    """A task whose model has one convolution."""
    torch.manual_seed(0)
    body = [nn.Conv2d(shape[0], 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(2, classes))
    source = TensorSource(torch.randn(8, *shape), torch.arange(8) % classes)
    return Task(model, source, source, Engine(device="cpu"), seed=0, num_classes=classes)


def test_another_architecture_or_other_data_is_a_warning_that_names_the_cure() -> None:
    recipe = "cifar10-resnet18-scissorhands"
    method, task = Finetune(recipe=recipe, epochs=1), images(4, (1, 8, 8))
    with pytest.warns(EigenforgetWarning, match=rf"{recipe}.*1 convolutions, not 20.*lr=") as found:
        run_method(method, task)
    (line,) = (str(w.message) for w in found)
    assert "4 classes, not 10" in line and "(1, 8, 8)" in line
    with pytest.warns(EigenforgetWarning, match="esc is for All-CNN") as found:
        run_method(METHODS.parse("esc(recipe='cifar10-allcnn-esc')"), task)
    assert all("lr=" not in str(w.message) for w in found)
    nested = Masked(inner=RandomLabel(recipe="cifar10-resnet18-delete", epochs=1))
    with pytest.warns(EigenforgetWarning, match="random_label is for ResNet-18"):
        run_method(nested, task)


def test_without_a_recipe_nothing_is_said(recwarn: pytest.WarningsRecorder) -> None:
    same = Finetune(**{**Finetune.recipes["cifar10-resnet18-scissorhands"], "epochs": 1})
    run_method(same, images(4, (1, 8, 8)))
    assert not [w for w in recwarn if issubclass(w.category, EigenforgetWarning)]


def test_the_name_of_the_recipe_is_beside_the_fields_and_not_one_of_them() -> None:
    method = METHODS.parse('scrub(recipe="cifar10-resnet18-scrub", lr=0.25)')
    assert recipe_of(method) == "cifar10-resnet18-scrub" and method.lr == 0.25
    again = parse(spell(method), METHODS, "method")
    assert again == method and recipe_of(again) is None
    assert recipe_of(replace(method)) is None and recipe_of("text") is None
    assert described(method)["recipe_changed"] == ["lr"]
    assert "recipe_changed" not in described(
        METHODS.parse('scrub(recipe="cifar10-resnet18-scrub")')
    )
