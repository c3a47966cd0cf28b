// Charts by plotly, whose script is only loaded where there is something to draw.

let loading = null;
const drawn = new Map(); // element of a chart → how to draw it again in other colors

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "plotly.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly's script did not load"));
    document.head.append(script);
  });
  return loading;
}

// The value of a color that the style sheet computes, which depends on light and dark.
function color(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export function colors() {
  return Object.fromEntries(["ink", "muted", "line", "accent", "control", "surface", "tint"].map((name) => [name, color(name)]));
}

function axis(palette, options) {
  return {
    gridcolor: palette.line, linecolor: palette.line, zeroline: false, tickfont: { size: 11, color: palette.muted },
    automargin: false, fixedrange: true, nticks: 5, ...options,
  };
}

function layout(palette, options) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: palette.ink },
    margin: { l: 48, r: 8, t: 8, b: 28 },
    hoverlabel: { bgcolor: palette.ink, bordercolor: palette.ink, font: { color: palette.surface, size: 12 } },
    ...options,
  };
}

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

async function draw(element, figure) {
  const Plotly = await plotly();
  const { data, layout: made } = figure(colors());
  await Plotly.react(element, data, made, CONFIG);
  drawn.set(element, figure);
}

export async function redraw() {
  for (const [element, figure] of drawn) {
    if (element.isConnected) await draw(element, figure);
    else drawn.delete(element);
  }
}

export function drop(element) {
  drawn.delete(element);
  if (window.Plotly && element.classList.contains("js-plotly-plot")) window.Plotly.purge(element);
}

// A value of each episode in the order of the recording, with its trend. A click opens the episode.
export async function recording(element, curve, name, opened) {
  await draw(element, (palette) => ({
    data: [
      {
        x: curve.number, y: curve.value, type: "scatter", mode: "markers", hovertemplate: `episode %{x:,d}<br>${name} %{y:,.5~g}<extra></extra>`,
        marker: { size: 4, color: palette.control, opacity: 0.55 },
      },
      { x: curve.trend_number, y: curve.trend, type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: palette.accent, width: 2.25 } },
    ],
    layout: layout(palette, { xaxis: axis(palette, { showgrid: false, tickformat: ",d", range: padded([0, Math.max(curve.number.at(-1) ?? 1, curve.trend_number.at(-1) ?? 1)]) }), yaxis: axis(palette, {}) }),
  }));
  element.on("plotly_click", (event) => opened(event.points[0].x));
}

function padded(numbers) {
  const [first, last] = numbers;
  const space = Math.max((last - first) * 0.015, 0.5);
  return [first - space, last + space];
}

export async function histogram(element, bins, name) {
  const { edges, counts } = bins;
  const middles = counts.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  await draw(element, (palette) => ({
    data: [{
      x: middles, y: counts, type: "bar", width: counts.map((_, i) => (edges[i + 1] - edges[i]) * 0.92), marker: { color: palette.accent },
      hovertemplate: `${name} %{x:,.5~g}<br>%{y:,d} episodes<extra></extra>`,
    }],
    layout: layout(palette, { xaxis: axis(palette, { showgrid: false }), yaxis: axis(palette, { tickformat: ",~s" }), bargap: 0 }),
  }));
}

export const ROW_PX = 56; // as .strips .names in viewer.css
const AXIS_PX = 24;

// A strip for each curve, one below another, over the same steps.
export async function strips(element, curves, last, ranges) {
  const count = curves.length;
  element.style.height = `${count * ROW_PX + AXIS_PX}px`;
  await draw(element, (palette) => {
    const made = layout(palette, {
      margin: { l: 0, r: 0, t: 0, b: AXIS_PX }, hovermode: false, dragmode: false,
      xaxis: axis(palette, { range: [0, last], showgrid: false, anchor: `y${count}`, tickformat: ",d", nticks: 6, ticklabelposition: "outside" }),
      shapes: curves.slice(1).map((_, i) => ({
        type: "line", xref: "paper", yref: "paper", x0: 0, x1: 1, y0: 1 - (i + 1) / count, y1: 1 - (i + 1) / count, line: { color: palette.line, width: 1 },
      })),
    });
    curves.forEach((curve, i) => {
      const [low, high] = ranges[curve.name] ?? [0, 1];
      const space = (high - low || Math.abs(high) || 1) * 0.14;
      made[`yaxis${i + 1}`] = axis(palette, {
        domain: [1 - (i + 1) / count, 1 - i / count], range: [low - space, high + space], showgrid: false, showticklabels: false,
      });
    });
    return {
      layout: made,
      data: curves.map((curve, i) => ({
        x: typeof curve.x === "number" ? undefined : curve.x, y: curve.y, type: "scatter", mode: curve.y.length > 1 ? "lines" : "markers",
        yaxis: `y${i + 1}`, line: { color: palette.accent, width: 1.5, shape: curve.steps ? "hv" : "linear" }, connectgaps: false, hoverinfo: "skip",
      })),
    };
  });
}

// Another part of the steps in all strips of an element.
export async function zoom(element, range) {
  const Plotly = await plotly();
  if (element.classList.contains("js-plotly-plot")) await Plotly.relayout(element, { "xaxis.range": range });
}
