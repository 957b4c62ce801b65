// Charts by uPlot. A chart fills its figure, shows the newest or hovered values in its key, and is
// redrawn when the colours change.

import uPlot from "./vendor/uPlot.esm.js";

const FONT = '11px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6];
const minute = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
// The label at the left edge would run into the other axis.
const minutes = ({ scales: { x } }, all) => all.map((at) => (at - x.min < 0.05 * (x.max - x.min) ? "" : minute(at)));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Head and empty plot of a figure; returns where the plot goes and the key's value elements. */
function furnish(figure, title, aside, series) {
  const head = element("figcaption", "chart-head");
  const heading = element("h3", "", `${title} `);
  if (aside) heading.append(element("span", "aside", aside));
  head.append(heading);
  const key = element("ul", "key");
  const values = series.map((each) => {
    const entry = element("li", "");
    const swatch = element("i", each.dash ? "swatch dashed" : "swatch");
    swatch.style.setProperty("--swatch", `var(--${each.colour})`);
    const value = element("b", "");
    entry.append(swatch, `${each.label} `, value);
    key.append(entry);
    return value;
  });
  head.append(key);
  const plot = element("div", "plot");
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `Chart: ${title}`);
  figure.append(head, plot);
  return { plot, values };
}

/** Create a chart with `build`, and again after every change of theme and size. */
function keep(plot, build) {
  let chart = null;
  let data = null;
  const size = () => ({ width: plot.clientWidth, height: plot.clientHeight });
  const make = () => {
    chart?.destroy();
    chart = plot.clientWidth > 0 ? build(size(), data) : null;
  };
  document.addEventListener("themechange", make);
  new ResizeObserver(() => {
    const now = size();
    if (chart === null) make();
    else if (chart.width !== now.width || chart.height !== now.height) chart.setSize(now);
  }).observe(plot);
  return {
    set(columns) {
      data = columns;
      if (chart === null) make();
      else chart.setData(columns);
    },
  };
}

function axes(format, splits) {
  const grid = { stroke: colour("line"), width: 1 };
  const look = { stroke: colour("muted"), font: FONT, ticks: { show: false } };
  return [
    { ...look, grid: { show: false }, size: 20, gap: 3, space: 70, values: minutes },
    { ...look, grid, size: 46, gap: 6, space: 26, values: (_, all) => all.map(format), ...splits },
  ];
}

/** Lines over time.
 *  `series`: {field, label, colour, dash, fill}; `span` the seconds shown; the upper end of the
 *  scale is between `top` and `highest`; `whole` for counts. Returns set(columns), with columns as the server sends them. */
export function lines(figure, { title, aside, series, span, format, axis = format, top = 1, highest = Infinity, whole = false }) {
  const { plot, values } = furnish(figure, title, aside, series);
  let columns = null;
  const show = (index) => {
    series.forEach((each, number) => {
      const value = columns?.[each.field][index ?? columns.at.length - 1];
      values[number].textContent = format(value ?? null);
    });
  };
  const build = (size, data) => new uPlot({
    ...size,
    tzDate: utc,
    padding: [6, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { setScale: false, x: false } },
    scales: {
      x: { range: () => { const end = data_end(columns); return [end - span, end]; } },
      y: { range: (_, __, max) => [0, Math.min(Math.max((max ?? 0) * 1.12, top), highest)] },
    },
    axes: axes(axis, whole ? { incrs: WHOLE } : {}),
    series: [{}, ...series.map((each) => ({
      label: each.label,
      stroke: colour(each.colour),
      width: 1.5,
      dash: each.dash ? [4, 4] : undefined,
      fill: each.fill ? `${colour(each.colour)}22` : undefined,
      points: { show: false },
    }))],
    hooks: { setCursor: [(chart) => show(chart.cursor.idx)] },
  }, data, plot);
  const kept = keep(plot, build);
  return {
    set(newest) {
      columns = newest;
      kept.set([newest.at.map((at) => at / 1000), ...series.map((each) => newest[each.field])]);
      show(null);
    },
  };
}

const data_end = (columns) => (columns?.at.length ? columns.at[columns.at.length - 1] : Date.now()) / 1000;

/** A histogram of scores in equal parts of [0, 1], on a logarithmic scale, with both thresholds. */
export function histogram(figure, { title, aside, format }) {
  const series = [
    { label: "approve", colour: "series-1" },
    { label: "review", colour: "amber" },
    { label: "block", colour: "red" },
  ];
  const { plot, values } = furnish(figure, title, aside, series);
  let limits = [0.75, 0.95];
  const height = (counted) => Math.log10(1 + counted);
  const powers = [0, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7];
  const build = (size, data) => {
    const bars = uPlot.paths.bars({ size: [0.86, 60], align: 0 });
    return new uPlot({
      ...size,
      padding: [6, 14, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: [0, 1] },
        y: { range: (_, __, max) => [0, Math.max((max ?? 0) * 1.08, height(10))] },
      },
      axes: axes((value) => format(Math.round(10 ** value - 1)), {
        space: 12,
        splits: (_, __, ___, max) => powers.map(height).filter((value) => value <= max),
      }).map((axis, number) => (number ? axis : {
        ...axis,
        splits: () => [0, 0.2, 0.4, 0.6, 0.8, 1],
        values: (_, all) => all.map((x) => x.toFixed(1)),
      })),
      series: [{}, ...series.map((each) => ({
        stroke: colour(each.colour),
        fill: colour(each.colour),
        width: 0,
        paths: bars,
        points: { show: false },
      }))],
      hooks: { draw: [(chart) => threshold(chart, limits)] },
    }, data, plot);
  };
  const kept = keep(plot, build);
  return {
    set(counts, thresholds) {
      limits = thresholds ?? limits;
      const middles = counts.map((_, bin) => (bin + 0.5) / counts.length);
      const kind = (middle) => (middle > limits[1] ? 2 : middle > limits[0] ? 1 : 0);
      const split = [0, 1, 2].map((wanted) =>
        counts.map((counted, bin) => (kind(middles[bin]) === wanted && counted ? height(counted) : null)));
      kept.set([middles, ...split]);
      [0, 1, 2].forEach((wanted) => {
        const sum = counts.reduce((all, counted, bin) => all + (kind(middles[bin]) === wanted ? counted : 0), 0);
        values[wanted].textContent = format(sum);
      });
    },
  };
}

function threshold(chart, limits) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = colour("muted");
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.lineWidth = devicePixelRatio;
  for (const limit of limits) {
    const x = Math.round(chart.valToPos(limit, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
