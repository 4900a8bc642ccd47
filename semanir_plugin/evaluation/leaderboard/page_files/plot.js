// Quality against cost, drawn as SVG. Colour, shape and a label tell models apart, so that no one of them has to.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]; // Okabe and Ito
const SHAPES = ["circle", "square", "triangle", "diamond", "wedge", "cross", "star"];
// In pixels, as wide as the page, so that a phone shows all of it in letters of the same size.
const FRAME = { width: 860, height: 470, left: 66, right: 24, top: 18, bottom: 58, zero: 64 };

const RADII = [13, 24, 36, 50, 66]; // from a mark to its name

const plot = { published: "shown", score: scoreColumns[0].key, cost: null };

function plotSection() {
  const section = document.getElementById("cost");
  if (!costColumns.length) {
    section.append(make("p", { class: "note" }, "No cost was measured."));
    return;
  }
  plot.cost = costColumns[0].key;
  const holder = make("div", { id: "plot" });
  const detail = make("p", { class: "note", role: "status", id: "point" });
  const redraw = () => {
    FRAME.width = Math.min(1000, Math.max(300, holder.clientWidth));
    FRAME.height = FRAME.width < 600 ? 380 : 470;
    holder.replaceChildren(plotPicture(detail));
    detail.textContent = "Point at a mark, or go through them with the tab key, for its figures.";
  };
  const choose = (key) => (value) => {
    plot[key] = value;
    redraw();
  };
  const quality = scoreColumns.map((column) => [column.key, title(column)]);
  const cost = costColumns.map((column) => [column.key, column.label]);
  const choices = [choice("Quality", quality, plot.score, choose("score")), choice("Cost", cost, plot.cost, choose("cost"))];
  if (!results.rows.every(isMeasured)) {
    const options = [["shown", "shown"], ["hidden", "hidden"]];
    choices.push(choice("Published", options, plot.published, choose("published")));
  }
  section.append(make("div", { class: "choices" }, choices), holder, detail);
  let drawn = holder.clientWidth;
  window.addEventListener("resize", () => {
    if (holder.clientWidth === drawn) return;
    drawn = holder.clientWidth;
    redraw();
  });
  redraw();
}

function plotPicture(detail) {
  const score = scoreColumns.find((column) => column.key === plot.score);
  const cost = costColumns.find((column) => column.key === plot.cost);
  const points = results.rows
    .map((row, index) => ({ row, index, x: cost.get(row), y: score.get(row) }))
    .filter((point) => plot.published === "shown" || isMeasured(point.row))
    .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y) && point.x !== null && point.y !== null);
  if (!points.length) {
    return make("p", { class: "note" }, `No model has both ${title(score)} and ${cost.label}.`);
  }
  const x = costAxis(points, cost);
  const y = qualityAxis(points.map((point) => point.y));
  for (const point of points) Object.assign(point, { left: x.at(point.x), top: y.at(point.y) });
  const { width, height } = FRAME;
  return make(
    "figure",
    {},
    draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${title(score)} against ${cost.label}` },
      axes(x, y, cost, score),
      frontLine(points, score),
      x.hasRange ? points.map((point) => whisker(point, cost, x)) : [],
      labels(points),
      points.map((point) => mark(point, cost, score, detail)),
    ),
    plotLegend(points),
  );
}

/** Logarithmic, as costs are; models of no cost (bicubic's parameters) stand left of a break. */
function costAxis(points, cost) {
  const reach = points.flatMap((point) => [point.x, ...((cost.range && cost.range(point.row)) || [])]);
  const positive = reach.filter((value) => value > 0);
  const hasZero = points.some((point) => point.x <= 0);
  const start = FRAME.left + (hasZero ? FRAME.zero : 0);
  const [low, high] = positive.length ? [Math.min(...positive), Math.max(...positive)] : [1, 1];
  const from = Math.log10(low) - 0.12 * Math.max(Math.log10(high / low), 0.5);
  const to = Math.log10(high) + 0.16 * Math.max(Math.log10(high / low), 0.5);
  const place = (value) => start + ((Math.log10(value) - from) / (to - from)) * (FRAME.width - FRAME.right - start);
  return {
    at: (value) => (value > 0 ? place(value) : FRAME.left + FRAME.zero / 2),
    ticks: logTicks(10 ** from, 10 ** to),
    break: hasZero ? start : null,
    hasRange: Boolean(cost.range),
  };
}

function logTicks(low, high) {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(3))));
    }
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    if (inside.length >= 4) return inside;
  }
  return [low, high].map((tick) => Number(tick.toPrecision(2)));
}

function qualityAxis(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.1 * (high - low || Math.abs(high) || 1);
  const [from, to] = [low - margin, high + margin];
  const rough = (to - from) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const ticks = [];
  for (let index = Math.ceil(from / step); index * step <= to; index += 1) ticks.push(index * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const inner = FRAME.height - FRAME.bottom - FRAME.top;
  return { at: (value) => FRAME.top + ((to - value) / (to - from)) * inner, ticks, show: (tick) => format(tick, digits) };
}

function axes(x, y, cost, score) {
  const { width, height, left, right, top, bottom } = FRAME;
  const floor = height - bottom;
  const apart = (tick) => x.at(tick) > (x.break || left) + 12;
  const shown = x.ticks.filter(apart).map((tick) => [x.at(tick), tidy(tick)]);
  if (x.break) shown.push([x.at(0), "0"]);
  const lines = [
    ...y.ticks.map((tick) => draw("line", { class: "grid", x1: left, x2: width - right, y1: y.at(tick), y2: y.at(tick) })),
    ...x.ticks.map((tick) => draw("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: top, y2: floor })),
    draw("path", { class: "axis", d: `M${left},${top}V${floor}H${width - right}` }),
    x.break ? draw("path", { class: "break", d: `M${x.break - 3},${floor + 6}l6,-12m4,0l-6,12` }) : null,
  ];
  const text = (attributes, ...words) => draw("text", attributes, ...words);
  const scale = width < 600 ? "" : `, logarithmic${results.cost_size && cost.key !== "parameters" ? `, input ${size(results.cost_size)}` : ""}  ← less is better`;
  return draw(
    "g",
    { "aria-hidden": "true" },
    lines,
    y.ticks.map((tick) => text({ class: "tick", x: left - 8, y: y.at(tick) + 4, "text-anchor": "end" }, y.show(tick))),
    shown.map(([at, words]) => text({ class: "tick", x: at, y: floor + 20, "text-anchor": "middle" }, words)),
    text(
      { class: "axis-title", x: (left + width - right) / 2, y: height - 12, "text-anchor": "middle" },
      `${withUnit(cost.label, `[${cost.unit}]`)}${scale}`,
    ),
    text(
      { class: "axis-title", transform: `translate(16 ${(top + floor) / 2}) rotate(-90)`, "text-anchor": "middle" },
      withUnit(title(score), score.unit && `[${score.unit}]`) + (score.better === "higher" ? "  more is better →" : "  ← less is better"),
    ),
  );
}

/** Through the measured models that none surpasses in both. */
function frontLine(points, score) {
  const sign = score.better === "higher" ? 1 : -1;
  const measured = points.filter((point) => isMeasured(point.row));
  const ordered = measured.sort((a, b) => a.x - b.x || sign * (b.y - a.y));
  const front = [];
  for (const point of ordered) {
    if (!front.length || sign * point.y > sign * front[front.length - 1].y) front.push(point);
  }
  return draw("polyline", { class: "front", points: front.map((point) => `${point.left},${point.top}`).join(" ") });
}

function whisker(point, cost, x) {
  const range = cost.range(point.row);
  if (!range || !(range[0] > 0)) return null;
  const [low, high] = range.map(x.at);
  const ends = `M${low},${point.top - 5}v10m0,-5H${high}m0,-5v10`;
  return draw("path", { d: ends, class: "whisker", stroke: COLOURS[point.index % COLOURS.length] });
}

function outline(shape) {
  const star = Array.from({ length: 10 }, (_, i) => {
    const radius = i % 2 ? 4 : 9;
    return `${(radius * Math.sin((i * Math.PI) / 5)).toFixed(2)},${(-radius * Math.cos((i * Math.PI) / 5)).toFixed(2)}`;
  });
  return {
    circle: "M-7,0a7,7 0 1 0 14,0a7,7 0 1 0 -14,0z",
    square: "M-6,-6h12v12h-12z",
    triangle: "M0,-8L8,6H-8z",
    diamond: "M0,-9L9,0L0,9L-9,0z",
    wedge: "M0,8L8,-6H-8z",
    cross: "M-2.5,-8h5v5.5h5.5v5h-5.5v5.5h-5v-5.5h-5.5v-5h5.5z",
    star: `M${star.join("L")}z`,
  }[shape];
}

function symbol(row, index, attributes = {}) {
  const colour = COLOURS[index % COLOURS.length];
  const d = outline(SHAPES[index % SHAPES.length]);
  return draw("path", { d, class: `mark ${row.kind}`, fill: isMeasured(row) ? colour : "none", stroke: colour, ...attributes });
}

function mark(point, cost, score, detail) {
  const { row, index, left, top } = point;
  const range = cost.range && cost.range(row);
  const words = [
    `${row.model}${isMeasured(row) ? "" : " (published)"}: ${title(score)} ${withUnit(score.show(point.y), score.unit)}`,
    `${cost.label} ${withUnit(short(point.x), cost.unit)}`,
  ];
  if (range) words.push(`from ${short(range[0])} to ${withUnit(short(range[1]), cost.unit)}`);
  if (cost.disturbed(row)) words.push("disturbed");
  const text = words.join(", ");
  const tell = () => {
    detail.textContent = text;
  };
  const attributes = { transform: `translate(${left} ${top})`, tabindex: "0", role: "img", "aria-label": text, "data-row": index };
  return symbol(row, index, { ...attributes, onpointerenter: tell, onfocus: tell, onclick: tell });
}

/** Names around the marks, each where it covers least of what is there already; far ones are tied by a line. */
function labels(points) {
  const taken = points.map((point) => box(point.left - 9, point.top - 9, 18, 18));
  return points.map((point) => {
    const name = point.row.model.length > 26 ? `${point.row.model.slice(0, 25)}…` : point.row.model;
    const cost = (place) => outside(place) + place.distance + 4 * taken.reduce((sum, other) => sum + overlap(place, other), 0);
    const best = places(point, textWidth(name)).reduce((a, b) => (cost(b) < cost(a) ? b : a));
    taken.push(best);
    const attributes = { class: `label ${point.row.kind}`, "aria-hidden": "true", x: best.left, y: best.top + 12 };
    return [best.distance > RADII[0] ? leader(point, best) : null, draw("text", attributes, name)];
  });
}

function textWidth(text) {
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = `italic 13px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width + 2;
}

/** Boxes for a text of some width around a mark, at every angle and distance. */
function places(point, width) {
  const height = 15;
  return RADII.flatMap((distance) =>
    Array.from({ length: 16 }, (_, index) => {
      const [x, y] = [Math.cos((index * Math.PI) / 8), Math.sin((index * Math.PI) / 8)];
      const left = point.left + distance * x + (x - 1) * (width / 2);
      const top = point.top + distance * y + (y - 1) * (height / 2);
      return { ...box(left, top, width, height), distance };
    }),
  );
}

function leader(point, place) {
  const nearest = (value, low, high) => Math.min(high, Math.max(low, value));
  const end = [nearest(point.left, place.left, place.right), nearest(point.top, place.top + 3, place.bottom - 3)];
  return draw("line", { class: "leader", x1: point.left, y1: point.top, x2: end[0], y2: end[1] });
}

const box = (left, top, width, height) => ({ left, top, right: left + width, bottom: top + height });

function overlap(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

function outside(place) {
  const sides = [FRAME.left - place.left, place.right - FRAME.width, FRAME.top - 12 - place.top];
  return sides.concat(place.bottom - FRAME.height + FRAME.bottom).reduce((sum, each) => sum + 100 * Math.max(0, each), 0);
}

function plotLegend(points) {
  const entry = (words, ...shapes) =>
    make("span", { class: "entry" }, draw("svg", { viewBox: "-12 -12 24 24", "aria-hidden": "true" }, ...shapes), words);
  const sample = (kind) => symbol({ kind }, 0, { fill: kind === "measured" ? "currentColor" : "none", stroke: "currentColor" });
  const entries = [entry("measured here", sample("measured"))];
  if (points.some((point) => !isMeasured(point.row))) entries.push(entry("published", sample("published")));
  entries.push(entry("no measured model is better in both", draw("path", { class: "front", d: "M-12,8L12,-8" })));
  return make("figcaption", { class: "note legend" }, entries);
}
