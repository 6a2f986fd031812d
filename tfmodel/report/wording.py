"""Numbers as a reader wants them: shares, durations, sizes, counts."""


def count(value: float) -> str:
    """`2225` as `2,225`."""
    return f"{round(value):,}"


def percent(value: float | None, *, digits: int = 1) -> str:
    """`0.9741` as `97.4%`; only all reads as `100%`, and only nothing as `0%`."""
    if value is None:
        return "–"
    if value in (0, 1):
        return f"{100 * value:.0f}%"
    text = f"{100 * value:.{digits}f}"
    if float(text) == 100:
        return f">{100 - 10**-digits:.{digits}f}%"
    return f"<{10**-digits:.{digits}f}%" if float(text) == 0 else f"{text}%"


def correlation(value: float | None) -> str:
    """`0.84127` as `0.841`."""
    return "–" if value is None else f"{value:.3f}"


def number(value: float | None) -> str:
    """`3.14159` as `3.14`, `1234.5` as `1,234`."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """`192` as `3 min 12 s`."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(value: float | None) -> str:
    """Bytes `91_000_000` as `91.0 MB`."""
    if value is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # 999.96 kB would round to 1000.0 kB
        if value >= 0.99995 * scale:
            return f"{value / scale:.1f} {unit}"
    return f"{round(value)} bytes"


def milliseconds(value: float | None) -> str:
    """`18.33` as `18 ms`, `1.25` as `1.2 ms`, `0.0213` as `0.021 ms`."""
    if value is None:
        return "–"
    if value < 0.995:
        return f"{tiny(value)} ms"
    return f"{value:,.0f} ms" if value >= 9.95 else f"{value:.1f} ms"


def tiny(value: float | None) -> str:
    """`0.000000119` as `1.2e-7`, `0.0234` as `0.023`."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if not abs(value) < 0.001:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1, "row"` as `1 row`, `2, "row"` as `2 rows`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def name(label: str) -> str:
    """A label inside a sentence: in quotes, cut where it is longer than a name should be."""
    return f"“{label if len(label) <= 60 else label[:59] + '…'}”"


def listed(parts: list[str]) -> str:
    """`[a, b, c]` as `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def rate(value: float) -> str:
    """`46.31` as `46`, `7.42` as `7.4`."""
    return count(value) if value >= 9.95 else f"{value:.1f}"
