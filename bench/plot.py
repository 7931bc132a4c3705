"""Bars as SVG, by hand: a name, a bar, a whisker from the lowest to the highest round, the figure."""

from html import escape

WIDTH, LEFT, RIGHT, ROW, TOP = 780, 216, 110, 26, 46
COLOURS = {"tramline": "#1f6feb", "floor": "#8b949e", "peer": "#d98e2b"}
FONT = 'font-family="system-ui, sans-serif"'


def text(x, y, words, size=12, anchor="start", colour="#1f2328", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}" {FONT}>{escape(words)}</text>')


def bar(row, figure, y, scale):
    spread = row[figure]
    colour = COLOURS[row["kind"]]
    width = max(spread.median * scale, 1)
    middle = y + ROW / 2 - 2
    parts = [text(LEFT - 8, middle + 4, row["server"], anchor="end",
                  weight="bold" if row["kind"] == "tramline" else "normal"),
             f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{ROW - 8}" rx="2" fill="{colour}" '
             f'fill-opacity="{1 if row["clean"] else 0.35}"/>']
    if spread.high > spread.low:
        low, high = LEFT + spread.low * scale, LEFT + spread.high * scale
        parts.append(f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6'
                     f'M{high:.1f} {middle - 3:.1f}v6" stroke="#1f2328" stroke-width="1" fill="none"/>')
    figure_text = f"{spread.median:,.0f}" if spread.median >= 1000 else f"{spread.median:.3g}"
    note = "" if row["clean"] else " *"
    parts.append(text(LEFT + max(width, spread.high * scale) + 6, middle + 4, figure_text + note))
    return "".join(parts)


def bars(title, unit, rows, figure):
    """rows: as report.summary() makes them. Less is better. A pale bar with a star: it lost something."""
    rows = sorted((r for r in rows if r["measured"]), key=lambda r: r[figure].median)
    longest = max((r[figure].high for r in rows), default=0) or 1
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + len(rows) * ROW + 14
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
             f'height="{height}" role="img"><title>{escape(title)}</title>'
             f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
             text(14, 20, title, size=14, weight="bold"),
             text(14, 36, f"{unit}, less is better; * lost messages or connections", size=11,
                  colour="#59636e")]
    for i, row in enumerate(rows):
        parts.append(bar(row, figure, TOP + i * ROW, scale))
    return "\n".join([*parts, "</svg>"]) + "\n"
