// Draws the table beside each [data-chart], at whatever width there is; the table is for those who see no pictures.
"use strict";

(() => {
  const HEIGHT = 220;
  const plots = new Map();

  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const plot = plots.get(target);
      if (plot && target.clientWidth && plot.width !== target.clientWidth) plot.setSize({ width: target.clientWidth, height: HEIGHT });
    }
  });

  function columnsOf(table) {
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => (cell.dataset.value ? Number(cell.dataset.value) : null)));
    rows.reverse(); // The table shows the newest first; a chart runs from left to right.
    return [...table.tHead.rows[0].cells].map((_, column) => rows.map((row) => row[column]));
  }

  function draw(place, table) {
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const language = document.documentElement.lang;
    const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
    const figure = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px Be Vietnam Pro, sans-serif" };
    const looks = [{ stroke: css("--accent"), width: 2 }, { stroke: css("--warn"), width: 2, dash: [6, 4] }];
    const series = names.slice(1).map((label, i) => ({ label, ...looks[i % 2], points: { show: false }, spanGaps: false, value: (_, v) => (v === null ? "–" : figure.format(v)) }));
    return new uPlot(
      {
        width: place.clientWidth, height: HEIGHT,
        legend: { show: names.length > 2, live: false },
        cursor: { y: false },
        scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 5) * 1.1] } },
        axes: [
          { ...axis, size: 34, space: 90, values: (_, ticks) => ticks.map((t) => clock.format(new Date(t * 1000))) },
          { ...axis, size: 54, values: (_, ticks) => ticks.map((t) => figure.format(t)) },
        ],
        series: [{ label: names[0], value: (_, v) => (v === null ? "–" : clock.format(new Date(v * 1000))) }, ...series],
      },
      columnsOf(table),
      place,
    );
  }

  function drawCharts() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const table = document.getElementById(place.dataset.chart);
      const plot = plots.get(place);
      if (!table || table.tBodies[0].rows.length < 2) {
        if (plot) remove(place); // The worker has started again: what was drawn is of the one before.
        place.hidden = true;
        continue;
      }
      if (plot) {
        plot.setData(columnsOf(table));
        continue;
      }
      place.hidden = false; // Hidden until now, and without a width.
      plots.set(place, draw(place, table));
      resized.observe(place);
    }
    for (const place of plots.keys()) if (!place.isConnected) remove(place);
  }

  function remove(place) {
    resized.unobserve(place);
    plots.get(place).destroy();
    plots.delete(place);
  }

  function drawInTheseColours() {
    for (const place of [...plots.keys()]) remove(place);
    drawCharts();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawInTheseColours);
  document.addEventListener("page:shown", drawCharts);
  drawCharts();
})();
