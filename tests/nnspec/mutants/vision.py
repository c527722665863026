"""Wrong layers of images."""

import math

import jax
import jax.numpy as jnp

import jaxnn.functional as F

from . import mutant, reconfigured


def both(option):
    return option if isinstance(option, tuple) else (option, option)


def windows(layer, sizes):
    """Return how many positions the window of a layer has in each dimension."""
    options = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    dims = zip(sizes, *map(both, options), strict=True)
    return [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, d, p, s in dims]


def regrouped(array, axis, first, second):
    """Return the array, whose dimension of size first * second goes the other way round."""
    axis = axis % array.ndim
    shape = array.shape
    split = array.reshape(*shape[:axis], first, second, *shape[axis + 1 :])
    return split.swapaxes(axis, axis + 1).reshape(shape)


@mutant("Unfold.M01")
def taps_before_channels(layer):
    class Mutant(layer):
        def __call__(self, input):
            return regrouped(
                super().__call__(input), -2, input.shape[-3], math.prod(both(self.kernel_size))
            )

    return Mutant


@mutant("Unfold.M02")
def positions_column_by_column(layer):
    class Mutant(layer):
        def __call__(self, input):
            return regrouped(super().__call__(input), -1, *windows(self, input.shape[-2:]))

    return Mutant


@mutant("Unfold.M03")
def dilation_ignored(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            near = F.unfold(input, self.kernel_size, 1, self.padding, self.stride)
            return near[..., : output.shape[-1]]

    return Mutant


@mutant("Unfold.M04")
def stride_is_the_kernels_size(layer):
    class Mutant(layer):
        def __init__(self, **options):
            super().__init__(**{"stride": options["kernel_size"], **options})

    return Mutant


@mutant("Unfold.M05")
def arguments_of_pooling(layer):
    class Mutant(layer):
        def __call__(self, input):
            return F.unfold(input, self.kernel_size, self.stride, self.dilation, self.padding)

    return Mutant


@mutant("Fold.M01")
def rows_taps_before_channels(layer):
    class Mutant(layer):
        def __call__(self, input):
            area = math.prod(both(self.kernel_size))
            return super().__call__(regrouped(input, -2, area, input.shape[-2] // area))

    return Mutant


@mutant("Fold.M02")
def columns_column_by_column(layer):
    class Mutant(layer):
        def __call__(self, input):
            counts = windows(self, both(self.output_size))
            return super().__call__(regrouped(input, -1, *counts[::-1]))

    return Mutant


@mutant("Fold.M03")
def last_block_wins(layer):
    class Mutant(layer):
        def __call__(self, input):
            # The largest of the numbers of the blocks that meet at a place.
            fold = super().__call__
            options = (self.kernel_size, self.dilation, self.padding, self.stride)
            numbers = jnp.arange(input.shape[-1])
            alone = [fold(jnp.ones_like(input) * (numbers == number)) for number in numbers]
            last = len(alone) - 1 - jnp.argmax(jnp.stack(alone[::-1]), axis=0)
            wins = F.unfold(last.astype(input.dtype), *options) == numbers
            return fold(jnp.where(wins, input, 0))

    return Mutant


@mutant("Fold.M04")
def mean_where_they_overlap(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(input) / super().__call__(jnp.ones_like(input)).clip(1)

    return Mutant


def blocks_turned(output, r):
    """Return images, each of whose r by r blocks is transposed."""
    *lead, height, width = output.shape
    blocks = output.reshape(*lead, height // r, r, width // r, r)
    return blocks.swapaxes(-3, -1).reshape(output.shape)


@mutant("PixelShuffle.M01")
def output_channels_vary_fastest(layer):
    class Mutant(layer):
        def __call__(self, input):
            area = self.upscale_factor**2
            return super().__call__(regrouped(input, -3, area, input.shape[-3] // area))

    return Mutant


@mutant("PixelShuffle.M02")
def pixels_column_by_column(layer):
    class Mutant(layer):
        def __call__(self, input):
            return blocks_turned(super().__call__(input), self.upscale_factor)

    return Mutant


@mutant("PixelShuffle.M03")
def coarser_instead_of_finer(layer):
    class Mutant(layer):
        def __call__(self, input):
            r = self.upscale_factor
            if input.shape[-2] % r or input.shape[-1] % r:
                return super().__call__(input)
            return F.pixel_unshuffle(input, r)

    return Mutant


@mutant("PixelUnshuffle.M01")
def input_channels_vary_fastest(layer):
    class Mutant(layer):
        def __call__(self, input):
            area = self.downscale_factor**2
            return regrouped(super().__call__(input), -3, input.shape[-3], area)

    return Mutant


@mutant("PixelUnshuffle.M02")
def taken_column_by_column(layer):
    class Mutant(layer):
        def __call__(self, input):
            return super().__call__(blocks_turned(input, self.downscale_factor))

    return Mutant


@mutant("PixelUnshuffle.M03")
def image_cut_into_parts(layer):
    class Mutant(layer):
        def __call__(self, input):
            r = self.downscale_factor
            rows = regrouped(input, -2, r, input.shape[-2] // r)
            return super().__call__(regrouped(rows, -1, r, input.shape[-1] // r))

    return Mutant


@mutant("ChannelShuffle.M01")
def groups_is_the_size_of_a_group(layer):
    class Mutant(layer):
        def __call__(self, input):
            return F.channel_shuffle(input, input.shape[1] // self.groups)

    return Mutant


@mutant("ChannelShuffle.M02")
def shuffles_the_first_dimension(layer):
    class Mutant(layer):
        def __call__(self, input):
            if input.shape[0] % self.groups:
                return super().__call__(input)
            return super().__call__(input.swapaxes(0, 1)).swapaxes(0, 1)

    return Mutant


@mutant("ChannelShuffle.M03")
def reversed_in_each_group(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.groups == 1:
                return super().__call__(input)
            shape = (input.shape[0], self.groups, -1, *input.shape[2:])
            return super().__call__(jnp.flip(input.reshape(shape), 2).reshape(input.shape))

    return Mutant


@mutant("Upsample.M01", "UpsamplingNearest2d.M01")
def nearest_takes_the_middle(layer):
    class Mutant(layer):
        def __call__(self, input):
            mode = "nearest-exact" if self.mode == "nearest" else self.mode
            return F.interpolate(input, self.size, self.scale_factor, mode, self.align_corners)

    return Mutant


@mutant("Upsample.M02")
def corners_aligned_by_default(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.align_corners is None and "linear" in self.mode:
                self.align_corners = True
            return super().__call__(input)

    return Mutant


@mutant("Upsample.M03")
def factor_always_recomputed(layer):
    return reconfigured(layer, recompute_scale_factor=True)


@mutant("Upsample.M04")
def another_cubic_kernel(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if self.mode != "bicubic":
                return output
            return jax.image.resize(input, output.shape, "cubic", antialias=False)

    return Mutant


@mutant("Upsample.M05")
def shrinking_averages(layer):
    class Mutant(layer):
        def __call__(self, input):
            if self.mode != "bilinear":
                return super().__call__(input)
            return F.interpolate(input, self.size, self.scale_factor, self.mode, antialias=True)

    return Mutant


@mutant("Upsample.M06", "UpsamplingNearest2d.M02", "UpsamplingBilinear2d.M02")
def last_dimension_first(layer):
    def backwards(option):
        return option[::-1] if isinstance(option, tuple) else option

    return reconfigured(layer, size=backwards, scale_factor=backwards)


@mutant("UpsamplingNearest2d.M03")
def gradients_are_averaged(layer):
    class Mutant(layer):
        def __call__(self, input):
            output = super().__call__(input)
            if not jnp.issubdtype(input.dtype, jnp.floating):
                return output
            share = input.size / output.size
            return output * share + jax.lax.stop_gradient(output * (1 - share))

    return Mutant


@mutant("UpsamplingBilinear2d.M01")
def corners_not_aligned(layer):
    class Mutant(layer):
        def __call__(self, input):
            return F.interpolate(input, self.size, self.scale_factor, self.mode)

    return Mutant


@mutant("UpsamplingBilinear2d.M03")
def shrinking_averages_between_corners(layer):
    class Mutant(layer):
        def __call__(self, input):
            old = (self.mode, True, None, True)
            return F.interpolate(input, self.size, self.scale_factor, *old)

    return Mutant


@mutant("interpolate.M01")
def nearest_is_nearest_exact(interpolate):
    def wrong(input, size=None, scale_factor=None, mode="nearest", *options, **more):
        mode = "nearest-exact" if mode == "nearest" else mode
        return interpolate(input, size, scale_factor, mode, *options, **more)

    return wrong


@mutant("interpolate.M02")
def aligns_corners_by_default(interpolate):
    def wrong(input, size=None, scale_factor=None, mode="nearest", align_corners=None, **more):
        if align_corners is None and "linear" in mode:
            align_corners = True
        return interpolate(input, size, scale_factor, mode, align_corners, **more)

    return wrong


@mutant("interpolate.M03")
def recomputes_the_factor(interpolate):
    def wrong(input, size=None, **options):
        return interpolate(input, size, **options | {"recompute_scale_factor": size is None})

    return wrong


@mutant("interpolate.M04")
def antialias_ignored(interpolate):
    def wrong(input, antialias=False, **options):
        return interpolate(input, **options)

    return wrong


@mutant("interpolate.M05")
def always_antialiased(interpolate):
    def wrong(input, mode="nearest", antialias=False, **options):
        antialias = antialias or (mode == "bilinear" and input.ndim == 4)
        return interpolate(input, mode=mode, antialias=antialias, **options)

    return wrong


@mutant("grid_sample.M01")
def first_coordinate_first(grid_sample):
    def wrong(input, grid, *options, **more):
        return grid_sample(input, jnp.flip(grid, -1), *options, **more)

    return wrong


@mutant("grid_sample.M02", "affine_grid.M01")
def outer_centres_by_default(function):
    def wrong(*values, align_corners=None, **more):
        return function(*values, align_corners=align_corners in (None, True), **more)

    return wrong


@mutant("grid_sample.M03")
def rounds_half_up(grid_sample):
    def wrong(input, grid, mode="bilinear", **options):
        # A little further, so that what lay in the middle does no longer.
        return grid_sample(input, grid + (mode == "nearest") * 2.0**-6, mode, **options)

    return wrong


@mutant("grid_sample.M04")
def border_for_zeros(grid_sample):
    def wrong(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        padding_mode = "border" if padding_mode == "zeros" else padding_mode
        return grid_sample(input, grid, mode, padding_mode, align_corners)

    return wrong


@mutant("grid_sample.M05")
def border_for_reflection(grid_sample):
    def wrong(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        padding_mode = "border" if padding_mode == "reflection" else padding_mode
        return grid_sample(input, grid, mode, padding_mode, align_corners)

    return wrong


@mutant("grid_sample.M06")
def grid_is_a_constant(grid_sample):
    def wrong(input, grid, *options, **more):
        return grid_sample(input, jax.lax.stop_gradient(grid), *options, **more)

    return wrong


@mutant("affine_grid.M02")
def results_backwards(affine_grid):
    def wrong(theta, size, align_corners=None):
        return jnp.flip(affine_grid(theta, size, align_corners), -1)

    return wrong


@mutant("affine_grid.M03")
def arguments_backwards(affine_grid):
    def wrong(theta, size, align_corners=None):
        turned = jnp.concatenate([jnp.flip(theta[..., :-1], -1), theta[..., -1:]], -1)
        return affine_grid(turned, size, align_corners)

    return wrong


@mutant("affine_grid.M04")
def no_translation(affine_grid):
    def wrong(theta, size, align_corners=None):
        return affine_grid(theta.at[..., -1].set(0), size, align_corners)

    return wrong
