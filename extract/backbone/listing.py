"""The backbones that can be used, in lines for `c3 backbones`."""

from __future__ import annotations

from collections.abc import Iterator

from ...common.errors import C3Error, NotFound
from ...common.optional_packages import optional_package
from .specs import SPECS, BackboneSpec

DESCRIBED = 40  # networks of timm; describing one takes a fraction of a second


def listing(wanted: str = "") -> str:
    """Return a line for every backbone whose name contains `wanted`: levels with channels, input size, weights.

    Networks of timm are listed where `wanted` is given, many of them by their names alone. Raises C3Error for a name
    that none contains, and where timm is needed and not installed.
    """
    own = [_line(spec) for name, spec in SPECS.items() if wanted in name]
    if not wanted:
        return "\n".join([*own, "timm:NAME, for example timm:convnext_tiny: c3 backbones FILTER lists those whose name "
                          "contains FILTER",
                          "open_clip:ARCH[:TAG], for example open_clip:ViT-B-32: OpenCLIP names them"])  # fmt: skip
    if wanted.startswith("open_clip"):
        names = optional_package("open_clip", "clip", wanted).list_models()
        lines = [f"open_clip:{name}" for name in names if wanted in f"open_clip:{name}"]
        if not lines:
            raise NotFound(f"no architecture of open_clip has {wanted!r} in its name; see: c3 backbones open_clip")
        return "\n".join(lines)
    lines = own + list(_timm_lines(wanted.removeprefix("timm:"), needed=not own))
    if not lines:
        raise NotFound(f"no backbone of torchvision or timm has {wanted!r} in its name; see: c3 backbones")
    return "\n".join(lines)


def _timm_lines(wanted: str, needed: bool) -> Iterator[str]:
    from .timm_networks import PREFIX, architectures, plan_of

    try:
        names = [wanted] if "." in wanted else architectures(wanted)  # with the tag of its weights, a name is whole
    except C3Error as error:
        if needed:
            raise
        yield str(error)
        return
    if len(names) > DESCRIBED:
        yield from (f"{PREFIX}{name}" for name in names)
        return
    for name in names:
        try:
            plan = plan_of(f"{PREFIX}{name}", None)
        except NotFound:
            raise  # an unknown tag
        except C3Error as error:
            yield f"{PREFIX}{name}: cannot be used, {str(error).partition(' ')[2]}"
            continue
        yield f"{_line(plan.spec)}, licence {plan.licence or 'unknown'}"


def _line(spec: BackboneSpec) -> str:
    levels = " ".join(f"{tap.level}({tap.channels})" for tap in spec.taps)
    weights = "" if spec.name.endswith(f":{spec.weights}") else f", weights {spec.weights}"
    return f"{spec.name:<20}  {levels}  {spec.transform.resize.side} px{weights}"
