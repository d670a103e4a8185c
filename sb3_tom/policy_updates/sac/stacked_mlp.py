r"""
Several networks of one shape, with forward and backward passes as batched matrix products.

For the layer :math:`z_l = h_{l-1} W_l^T + b_l`, :math:`h_l = f(z_l)` of each network, with an activation :math:`f`
(``activations.py``) and :math:`\delta_l = \partial L / \partial z_l`:

.. math::
    \frac{\partial L}{\partial W_l} = \delta_l^T h_{l-1}, \quad
    \frac{\partial L}{\partial b_l} = 1^T \delta_l, \quad
    \delta_{l-1} = (\delta_l W_l) \odot f'(z_{l-1}).

The parameters stay those of the modules: each becomes a view of one stacked tensor, so that nothing changes for modules,
optimisers and files.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_tom.policy_updates.sac.activations import Activation


def stack(parameters: Sequence[nn.Parameter]) -> th.Tensor:
    """
    One tensor of which the parameters are the slices along a new first axis. Parameters that are adjacent in memory already
    stay there; others are moved, in place.

    :param parameters: C parameters of one shape, dtype and device
    :return: ``[C, *shape]``, a view of their memory
    """
    first = parameters[0].detach()
    n_bytes = first.numel() * first.element_size()
    memory, start = first.untyped_storage().data_ptr(), first.data_ptr()
    for number, parameter in enumerate(parameters):
        adjacent = parameter.data_ptr() == start + number * n_bytes and parameter.is_contiguous()
        if not adjacent or parameter.untyped_storage().data_ptr() != memory:
            return _move(parameters)
    return first.as_strided((len(parameters), *first.shape), (first.numel(), *first.stride()))


def _move(parameters: Sequence[nn.Parameter]) -> th.Tensor:
    stacked = th.stack([parameter.detach() for parameter in parameters])
    for parameter, values in zip(parameters, stacked, strict=True):
        parameter.data = values
    return stacked


class Pass(NamedTuple):
    """
    Results of a forward pass, for the backward pass.

    :param layers: the inputs and the hidden layers, ``[C, B, width]`` each
    :param kept: for each hidden layer the tensor that its activation's derivative is computed from, ``[C, B, width]``
    :param outputs: ``[C, B, n_out]``
    """

    layers: list[th.Tensor]
    kept: list[th.Tensor]
    outputs: th.Tensor

    def first_rows(self, n_rows: int) -> "Pass":
        """
        The results for the first rows of the inputs.

        :param n_rows: number of rows
        """
        layers, kept = ([values[:, :n_rows] for values in part] for part in (self.layers, self.kept))
        return Pass(layers, kept, self.outputs[:, :n_rows])


class StackedMLP:
    """
    C networks of linear layers with an activation between them, whose last layer may have several heads.

    :param networks: for each network its layers, from the input on; all networks have the same shapes
    :param heads: for each network the output layers, of one shape, which share the last hidden layer
    :param activation: after each hidden layer
    """

    def __init__(
        self, networks: Sequence[Sequence[nn.Linear]], heads: Sequence[Sequence[nn.Linear]], activation: Activation
    ) -> None:
        self.activation = activation
        groups = [*zip(*networks, strict=True), tuple(head for members in heads for head in members)]
        self._parameters = [[layer.weight for layer in group] for group in groups]
        self._parameters += [[layer.bias for layer in group] for group in groups]
        n_networks, n_layers = len(networks), len(groups)
        self.stacked = [stack(group) for group in self._parameters]
        self._weights = [weight.view(n_networks, -1, weight.shape[-1]) for weight in self.stacked[:n_layers]]
        self._biases = [bias.view(n_networks, 1, -1) for bias in self.stacked[n_layers:]]
        self._memory: dict[int, list[tuple[th.Tensor, th.Tensor]]] = {}

    def bind_gradients(self) -> None:
        """Give each parameter a new ``grad`` that :meth:`backward` writes into."""
        self._gradients = [th.zeros_like(values) for values in self.stacked]
        n_layers = len(self._weights)
        self._weight_gradients = [g.view(w.shape) for g, w in zip(self._gradients, self._weights, strict=False)]
        self._bias_gradients = [g.view(b.shape) for g, b in zip(self._gradients[n_layers:], self._biases, strict=True)]
        self.attach_gradients()

    def attach_gradients(self) -> None:
        """Make what :meth:`backward` writes the parameters' ``grad`` again, after another network's has taken its place."""
        for group, values in zip(self._parameters, self._gradients, strict=True):
            for parameter, gradient in zip(group, values, strict=True):
                parameter.grad = gradient

    def forward(self, inputs: th.Tensor) -> Pass:
        """
        Forward pass of all networks.

        :param inputs: ``[B, n]``, the same for every network
        :return: the next call with as many rows overwrites its hidden layers
        """
        layers: list[th.Tensor] = [inputs.expand(self._weights[0].shape[0], *inputs.shape)]
        memory = self._memory_of(inputs)
        for weight, bias, (kept, hidden) in zip(self._weights, self._biases, memory, strict=False):
            th.baddbmm(bias, layers[-1], weight.mT, out=kept)
            layers.append(self.activation.forward(kept, hidden))
        return Pass(layers, [kept for kept, _ in memory], self._outputs(layers[-1]))

    def _memory_of(self, inputs: th.Tensor) -> list[tuple[th.Tensor, th.Tensor]]:
        """For each hidden layer two tensors of as many rows: what its activation keeps, and its output."""
        n_rows = inputs.shape[0]
        if n_rows not in self._memory:
            shapes = [(weight.shape[0], n_rows, weight.shape[1]) for weight in self._weights[:-1]]
            kept = [inputs.new_empty(shape) for shape in shapes]
            hidden = [th.empty_like(values) for values in kept] if self.activation.keeps_inputs else kept
            self._memory[n_rows] = [*zip(kept, hidden, strict=True)]
        return self._memory[n_rows]

    def _outputs(self, hidden: th.Tensor) -> th.Tensor:
        weight, bias = self._weights[-1], self._biases[-1]
        if weight.shape[1] > 1:
            return th.baddbmm(bias, hidden, weight.mT)
        return (hidden * weight).sum(-1, keepdim=True).add_(bias)  # faster than a product with one column

    def backward(self, passed: Pass, delta: th.Tensor) -> None:
        """
        Write the gradients of all parameters.

        :param passed: what :meth:`forward` returned
        :param delta: gradient of the loss with respect to the outputs, ``[C, B, n_out]``
        """
        for number in reversed(range(len(self._weights))):
            below = passed.layers[number]
            if delta.shape[-1] > 1:
                th.bmm(delta.mT, below, out=self._weight_gradients[number])
            else:
                th.sum(delta * below, 1, keepdim=True, out=self._weight_gradients[number])
            th.sum(delta, 1, keepdim=True, out=self._bias_gradients[number])
            if number:
                delta = self._through(number, passed, delta)

    def input_gradient(self, passed: Pass, delta: th.Tensor, n_columns: int) -> th.Tensor:
        """
        Gradient with respect to the last columns of the inputs, summed over networks; parameters get no gradients.

        :param passed: what :meth:`forward` returned
        :param delta: gradient of the loss with respect to the outputs, ``[C, B, n_out]``
        :param n_columns: number of columns
        :return: ``[B, n_columns]``
        """
        for number in reversed(range(1, len(self._weights))):
            delta = self._through(number, passed, delta)
        return th.bmm(delta, self._weights[0][:, :, -n_columns:]).sum(0)

    def _through(self, number: int, passed: Pass, delta: th.Tensor) -> th.Tensor:
        """Gradient of a layer's outputs, propagated to those of the layer below before its activation."""
        weight = self._weights[number]
        delta = th.bmm(delta, weight) if delta.shape[-1] > 1 else delta * weight
        return self.activation.backward(delta, passed.kept[number - 1])
