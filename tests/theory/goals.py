"""Goals for Coq: that its definitions compute, on a drawn network, what `theory.network` computes on Fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from simulate.quotient import quotient
from theory.manifolds import is_column_equitable, is_pattern_equitable, is_row_equitable
from theory.network import Network, backward, edge_gradient, forward, gradient, slope

KINDS = {
    "relu": "Relu",
    "leaky_relu": "Leaky",
    "linear": "Linear",
    "one": "One",
    "square": "Square",
    "cube": "Cube",
    "hardtanh": "Hardtanh",
}
HEAD = """Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Coq Require Import ZArith QArith Qcanon.
Delimit Scope nat_scope with N.
Local Close Scope Qc_scope.
Local Close Scope Q_scope.
From Lop Require Import network equitable quotient rationals evaluation.
Local Open Scope ring_scope.
"""
ETA = Fraction(1, 10)


def goal(statement):
    """Return a goal that Coq's kernel settles by evaluation, or not at all."""
    return f"Goal {statement}.\nProof. vm_cast_no_check (erefl true). Qed."


def number(value):
    value = Fraction(value)
    return f"q ({value.numerator}) {value.denominator}"


def listed(items):
    return f"[:: {'; '.join(items)}]" if items else "[::]"


def numbers(values):
    return listed([number(value) for value in values])


def naturals(values):
    return f"{listed([str(int(value)) for value in values])}%N"


def rows(table, order):
    """Return one list a sample, of the units in `order`."""
    return listed([numbers(table[order, k]) for k in range(table.shape[1])])


class Posed:
    """A network with samples, as Coq's data, and what Python computes of it.

    Units are numbered by depth, as Coq's networks are given in topological order.
    """

    def __init__(self, network: Network, x, seeds) -> None:
        self.network, self.x, self.seeds = network, x, seeds
        self.order = np.argsort(network.depth, kind="stable")
        self.place = np.argsort(self.order)
        self.trace = forward(network, x)
        self.errors = backward(network, self.trace, seeds)
        self.gradient = edge_gradient(network, x, seeds)

    @property
    def data(self):
        net = self.network
        kinds = [net.activations[u] for u in self.order]
        wires = zip(self.place[net.source], self.place[net.target], net.weights, strict=True)
        return "(Data {} {} {})".format(
            listed(["None" if kind is None else f"Some {KINDS[kind.name]}" for kind in kinds]),
            listed([f"({u}%N, {v}%N, {number(w)})" for u, v, w in wires]),
            naturals(self.place[list(net.outputs)]),
        )

    @property
    def samples(self):
        return listed([self.sample(k) for k in range(self.x.shape[1])])

    def sample(self, k):
        units = len(self.order)
        x, seeds = np.zeros((2, units), dtype=object)
        x[self.place[list(self.network.inputs)]] = self.x[:, k]
        seeds[self.place[list(self.network.outputs)]] = self.seeds[:, k]
        return f"sample_of {numbers(x)} {numbers(seeds)}"

    def agrees(self, gradient=None):
        """Say that activations, errors and gradients agree; `gradient` stands in for the own one."""
        tables = (rows(table, self.order) for table in (self.trace.z, self.trace.h, self.errors))
        gradient = self.gradient if gradient is None else gradient
        return f"agrees {self.data} {self.samples} {' '.join(tables)} {numbers(gradient)}"

    def steps(self, eta=ETA):
        """Say that one step of descent ends at the same weights; another `eta` is what Python takes."""
        after = self.network.weights - eta * self.gradient
        return f"steps_to {self.data} {self.samples} ({number(ETA)}) {numbers(after)}"

    def ties(self, *, wrong=False):
        """Say that, with one parameter for all edges of equal weight, gradients agree; `wrong`: one is one off."""
        weights, tie = np.unique(self.network.weights, return_inverse=True)
        tied = replace(self.network, parameters=weights, tie=tie)
        found = gradient(tied, self.x, self.seeds)
        found[tie[-1]] += 1 if wrong else 0
        return f"ties_agree {self.data} {self.samples} {naturals(tie)} {numbers(weights)} {numbers(found)}"

    def equitable(self, partition):
        """Return the three answers of Python, and the goal that Coq gives the same."""
        checks = (is_row_equitable, is_column_equitable, is_pattern_equitable)
        answers = [check(self.network, partition) for check in checks]
        labels = naturals(partition.labels[self.order])
        said = " ".join("true" if answer else "false" for answer in answers)
        return answers, f"is_equitable {self.data} {labels} {said}"

    def reduces(self, partition, *, wrong=False):
        """Say that the base network, and what a step of the clone makes of it, agree; `wrong`: at equal rates."""
        base, multiplier = quotient(self.network, partition)
        trace = forward(base, self.x)
        gradient = edge_gradient(base, self.x, self.seeds)
        after = base.weights - ETA * gradient * (1 if wrong else multiplier)
        labels = naturals(partition.labels[self.order])
        firsts = naturals(self.place[[block[0] for block in partition.blocks()]])
        pairs = listed([f"({j}%N, {i}%N)" for j, i in zip(base.source, base.target, strict=True)])
        return (
            f"reduces_to {self.data} {self.samples} {labels} {firsts} ({number(ETA)}) {pairs} "
            f"{numbers(base.weights)} {numbers(after)} {rows(trace.h, range(len(base.units)))}"
        )

    @property
    def at_kink(self):
        """Whether another slope at the kink of a ReLU unit shows: its z is 0, its error and an input are not."""
        slopes, net = slope(self.network, self.trace), self.network
        relu = np.array([f is not None and f.name == "relu" for f in net.activations])
        at = relu[:, None] & (self.trace.z == 0) & (self.errors != 0) & (slopes == 0)
        return bool((at[net.target] & (self.trace.h[net.source] != 0)).any())
