"""Wrong changes of shape."""

from . import mutant, reconfigured


@mutant("Flatten.M01")
def end_dim_ignored(layer):
    return reconfigured(layer, end_dim=-1)


@mutant("Flatten.M02")
def column_major(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if input.ndim == 0:
                return output
            start, end = self.start_dim % input.ndim, self.end_dim % input.ndim
            order = list(range(input.ndim))
            order[start : end + 1] = order[start : end + 1][::-1]
            return input.transpose(order).reshape(output.shape)

    return Mutant


@mutant("Unflatten.M01")
def unflattened_column_major(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            start, count = self.dim % input.ndim, len(self.unflattened_size)
            order = list(range(output.ndim))
            order[start : start + count] = order[start : start + count][::-1]
            return input.reshape([output.shape[axis] for axis in order]).transpose(order)

    return Mutant


@mutant("Unflatten.M02")
def always_the_last_dimension(layer):
    return reconfigured(layer, dim=-1)
