"""The claims of "Why lottery ticket wins" (arXiv 2110.05667): the check of each, by name."""

from launch.claims.experiment import Check
from launch.claims.lottery_ticket import lenet, masks, rates, samples, tickets

CHECKS: dict[str, Check] = {
    "phase_map": samples.phase_map,
    "radius": samples.radius,
    "overlap": samples.overlap,
    "inputs": samples.inputs,
    "momentum": rates.momentum,
    "rate_size": rates.rate_size,
    "rate_neurons": rates.rate_neurons,
    "noise": rates.noise,
    "wrong_masks": masks.wrong_masks,
    "iterative_teacher": tickets.iterative_teacher,
    "images": tickets.on_images,
    "lenet": lenet.lenet,
    "lenet_one_shot": lenet.lenet_one_shot,
    "starts": tickets.starts,
}
CAVEAT = (
    "only the paper's abstract was available; the forms of its theorems and the settings of its figures are "
    "reconstructed from memory (recalled), and numbers are derived or measured in this project. Its step size, K/14, "
    "is tens of times below the best one. That more pruning is better at a fixed mask accuracy holds for the error of "
    "the weights; for the risk, only with few samples."
)
