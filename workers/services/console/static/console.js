/* Whether the console answers, and charts of what the server has; nothing here decides. */
"use strict";
(() => {
  const away = document.getElementById("away");
  if (!away) return;
  document.addEventListener("htmx:sse:error", (event) => {
    const status = event.detail?.status;
    away.textContent = status === 401 || status === 403
      ? "You are logged out: type garrison console for a new link."
      : "The console does not answer; this page tries again. What is shown may be old.";
    away.hidden = false;
  });
  document.addEventListener("htmx:sse:after:connection", () => { away.hidden = true; });
})();
(() => {
  const EVERY_MS = 30000;
  const SCALE = { memory: 1 / 1048576, cpu: 1, p99: 1000, p50: 1000 };
  const charts = [...document.querySelectorAll(".chart")];
  if (!charts.length || typeof uPlot === "undefined") return;
  const source = charts.find((one) => one.dataset.chart).dataset.chart;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = new Map();

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function scaled(values, name) {
    return values.map((one) => (one === null ? null : one * SCALE[name]));
  }

  /* As all times of the console: in UTC, the day where it changes. */
  function times(_, ticks, __, ___, step) {
    let day = "";
    return ticks.map((one) => {
      const text = new Date(one * 1000).toISOString();
      const before = day;
      day = text.slice(5, 10);
      if (step >= 86400) return day;
      const clock = text.slice(11, step < 60 ? 19 : 16);
      return day === before ? clock : `${clock}\n${day}`;
    });
  }

  function options(chart, from) {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
    const unit = chart.dataset.unit;
    const points = { show: true, size: 3 };  /* one point between two gaps has no line */
    const series = [{}, { stroke: colour("--link"), width: 2, points, label: chart.dataset.line }];
    if (chart.dataset.second) {
      series.push({ stroke: colour("--odd"), width: 1, dash: [6, 4], points: { show: false }, label: chart.dataset.second });
    }
    return {
      width: chart.clientWidth,
      height: 160,
      legend: { show: false },
      cursor: { show: false },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      scales: { x: { range: () => [from, Date.now() / 1000] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, values: times }, { ...axis, size: 70, values: (_, ticks) => ticks.map((one) => `${one} ${unit}`) }],
      series,
    };
  }

  function draw(lines, from) {
    for (const chart of charts) {
      const names = [chart.dataset.line, chart.dataset.second].filter(Boolean);
      const data = [lines.at, ...names.map((one) => scaled(lines[one], one))];
      plots.get(chart)?.destroy();
      plots.set(chart, new uPlot(options(chart, from), data, chart));
    }
  }

  async function load() {
    if (document.hidden) return;
    try {
      const answer = await fetch(source, { credentials: "same-origin" });
      if (!answer.ok) return;
      const found = await answer.json();
      draw(found.lines, found.from);
    } catch {
      /* The banner of the page says that the console is away; the charts stay as they are. */
    }
  }

  let waiting = 0;
  new ResizeObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [chart, plot] of plots) plot.setSize({ width: chart.clientWidth, height: 160 });
    }, 100);
  }).observe(charts[0]);
  dark.addEventListener("change", load);
  document.addEventListener("visibilitychange", load);
  setInterval(load, EVERY_MS);
  load();
})();
