"""The figures of a benchmark as a text to read."""

from typing import Any

from emotion_jax.benchmark.worker import OURS


def table(content: dict[str, Any]) -> str:
    """Ours first, then the peers, then everything else.

    Args:
      content: from ``results.assemble``.
    """
    details = content["details"]
    ours = details["contenders"][OURS]
    head = (
        f"{content['device']}, {details['machine']['threads']} threads for everyone, batch "
        f"{content['batch_size']}, {details['config']['model']['dtype']}, {ours['parameters']:,} "
        f"parameters; medians of {details['rounds']} rounds of about {details['seconds']:g} s, "
        "taken in turns."
    )
    parts = [head, _rates("Training", details["train"])]
    for size, rates in details["eval"].items():
        parts.append(_rates(f"Inference, batch {size}", rates))
    parts += [_steps(details["step_seconds"]), _figures(content)]
    parts += [f"{name} was left out: {why}" for name, why in details["skipped"].items()]
    return "\n\n".join(parts)


def _rates(title: str, rates: dict[str, Any]) -> str:
    width = max(20, *map(len, rates))
    columns = f"{'images/s':>10}  {'quartiles':>17}  {'ours is':>8}  {'paired':>7}"
    lines = [f"{title:{width + 2}}{columns}"]
    for name, rate in rates.items():
        low, high = rate["quartiles"]
        spread = f"{low:.1f} - {high:.1f}"
        line = f"  {name:{width}}{rate['median']:10.1f}  {spread:>17}"
        if times := rate.get("ours_is_times_as_fast"):
            line += f"  {times['of_medians']:7.2f}x  {times['paired']:6.2f}x"
        lines.append(line)
    return "\n".join(lines)


def _steps(seconds: dict[str, Any]) -> str:
    lines = [f"{'Step time, ours':22}{'ms':>10}  {'images/s':>17}"]
    for size, step in seconds.items():
        rate = int(size) / step["median"]
        lines.append(f"  {f'batch {size}':20}{1e3 * step['median']:10.1f}  {rate:17.1f}")
    return "\n".join(lines)


def _figures(content: dict[str, Any]) -> str:
    details = content["details"]
    first, share = details["first_step_seconds"], details["end_to_end"]["ratio"]
    of_peak = details["utilisation_of_peak"]
    rows = {
        "end to end": f"{content['end_to_end_images_per_second']:.1f} images/s, "
        f"{share['paired']:.1%} of the step alone",
        "compilation": f"{content['compile_seconds']:.1f} s",
        "first step": f"{first['cold']:.1f} s after the command, {first['warm']:.1f} s again",
        "work a step": f"{_scaled(content['flops_per_step'])}FLOP as lax counts, "
        f"{_scaled(content['bytes_per_step'])}B accessed",
        "matrix product": f"{_scaled(content['matmul_flops_per_second'])}FLOP/s",
        "utilisation": f"{_percent(content['utilisation'])} of the matrix product"
        + (f", {of_peak:.1%} of the device's peak" if of_peak is not None else ""),
        "peak memory": f"{content['peak_memory_bytes'] / 2**20:,.0f} MiB",
    }
    ratio = content["ratio_to_fastest_peer"]
    if ratio is not None:
        rows["training"] = f"{ratio:.2f} times as fast as the fastest peer"
    return "\n".join(f"{name:16}{value}" for name, value in rows.items())


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _scaled(value: float | None) -> str:
    """With a unit's prefix: 4.46e10 is "44.6 G"."""
    if value is None:
        return "unknown "
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} P"
