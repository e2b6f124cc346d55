"""The attention forms and the activations as data, for code that imports neither torch nor numpy.

S = Q Kᵀ/√d are the scores of one head, M the 0/1 mask of real keys, m = ΣM. A form weighs key j of query i by a power
wᵢⱼ of the score Sᵢⱼ, and then either divides by the row's sum or multiplies by γ/m:

    divides:  Σⱼ Mⱼ wᵢⱼ Vⱼ / (Σⱼ Mⱼ wᵢⱼ + floor)
    freeDiv:  Σⱼ wᵢⱼ · γ · (Mⱼ/m) · Vⱼ

A new form is a row of `FORMS`. If its power is new too, that power has one formula in `replacements.attention.WEIGHTS`
(what it computes) and one in `lowering.attention.WEIGHTS` (the operations that compute it).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Power:
    """What a score becomes: f(S/divisor + offset), then squared `squarings` times (t times if None).

    f is the identity or ReLU; exp(S) is a power only by name. A factor γ on the whole goes inside as γ^(1/degree).
    """

    name: str
    squarings: int | None = 0

    @property
    def steep(self) -> bool:
        """Whether its degree grows with t: one high score outweighs its row, and may leave every ring."""
        return self.squarings is None

    def squarings_of(self, t: int) -> int:
        """How often it squares."""
        return t if self.squarings is None else self.squarings

    def degree(self, t: int) -> int:
        """2^squarings: what a factor inside is raised to."""
        return 1 << self.squarings_of(t)

    def divisor(self, t: int) -> int:
        """What S is divided by inside: 2ᵗ for exp_t, else 1."""
        return 1 << t if self.steep else 1


EXPONENTIAL = Power("exponential")  # exp(S)
SQUARE = Power("square", squarings=1)  # (S + c)²
RELU = Power("relu")  # ReLU(S)
EXP_T = Power("exp_t", squarings=None)  # (1 + S/2ᵗ)^(2ᵗ)


@dataclass(frozen=True)
class Form:
    """An attention form. name: in a recipe.

    shift: c before training, one a head; None if the power adds none. first_gamma: γ before calibration; None if the
    form divides by its row's sum. floor: what keeps that sum off zero. centre_keys: whether a recipe that does not say
    centres its keys.
    """

    name: str
    power: Power
    shift: float | None = None
    first_gamma: float | None = None
    floor: float = 0.0
    centre_keys: bool = False

    @property
    def divides(self) -> bool:
        """Whether it divides by its row's sum, and so has no γ."""
        return self.first_gamma is None

    @property
    def exact(self) -> bool:
        """Whether it is softmax itself, which centred keys and a key's bias do not change."""
        return self.power is EXPONENTIAL

    @property
    def cancels(self) -> bool:
        """Whether a factor on all weights of a row cancels, so that one may keep the row's sum small."""
        return self.divides and not self.exact and not self.floor


SHIFT = 5.0  # MPCFormer's c
SOFTMAX = Form("softmax", EXPONENTIAL)
FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        SOFTMAX,
        Form("2quad", SQUARE, shift=SHIFT),
        Form("2relu", RELU, floor=2.0**-10),
        Form("2quad-freediv", SQUARE, shift=SHIFT, first_gamma=1 / (SHIFT**2 + 1), centre_keys=True),
        Form("softmax-freediv", EXP_T, first_gamma=1.0, centre_keys=True),
        Form("relu-freediv", RELU, first_gamma=2.5),
    )
}

ACTIVATIONS = ("gelu", "gelu-tanh", "gelu-poly", "quad", "relu")
GELUS = frozenset(("gelu", "gelu-tanh", "gelu-poly"))  # one function, as near as recipes without distillation take it

# PUMA's piecewise GeLU (Dong et al. 2023): 0 below −4, LOW up to −1.95, HIGH up to 3, x above; powers from 0 up.
GELU_POLY_LOW = (-0.5054031199708174, -0.42226581151983866, -0.11807612951181953, -0.011034134030615728)
GELU_POLY_HIGH = (
    0.008526321541038084,
    0.5,
    0.3603292692789629,
    0.0,
    -0.037688200365904236,
    0.0,
    0.0018067462606141187,
)
GELU_TANH_CUBE = 0.044715  # gelu-tanh: x/2 · (1 + tanh(√(2/π)(x + 0.044715x³)))
